package schedule_test

import (
	"sync"
	"time"

	cron "github.com/netresearch/go-cron"
)

// shifted is the machine's clock, off by a shift that may change.
type shifted struct {
	cron.RealClock
	mu  sync.Mutex
	off time.Duration
}

func (s *shifted) shift(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off += d
}

func (s *shifted) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.RealClock.Now().Add(s.off)
}
