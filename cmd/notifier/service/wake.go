package service

import (
	"context"
	"time"

	"github.com/millrace-go/millrace/outbox/pgstore"
)

// buildWakeUps makes both ends of the wake-ups between processes: the listener that wakes
// the relay here, and the notifier that wakes the one that leads elsewhere.
func (s *service) buildWakeUps() (err error) {
	if s.listener, err = pgstore.NewListener(s.cfg.DatabaseURL, s.db, s.cfg.Relay); err != nil {
		return err
	}
	s.notifier, err = pgstore.NewNotifier(s.db)
	return err
}

// wake tells the leading relay of a commit: by a call if it is ours.
func (s *service) wake() {
	if s.relay.Status().Leading {
		s.relay.Wake()
		return
	}
	s.notifier.Notify()
}

// listen keeps the listener of the relay running until ctx ends. Without it the relay
// polls, so its errors are not errors of the service.
func (s *service) listen(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.listener.Run(ctx, s.relay.Wake); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "listener stopped; the relay polls", "postgres", s.cfg.postgresAddr(), "error", err, "again_in", longestGap.String())
			timer := time.NewTimer(longestGap)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
	return nil
}
