package service

import (
	"context"
	"time"

	"github.com/millrace-go/millrace/outbox/pgstore"
)

// buildBells makes both ends of the wire between services: the bell that wakes
// the relay here, and the ringer that wakes the one that leads elsewhere.
func (s *service) buildBells() (err error) {
	if s.bell, err = pgstore.NewListener(s.cfg.DatabaseURL, s.db, s.cfg.Relay); err != nil {
		return err
	}
	s.ringer, err = pgstore.NewNotifier(s.db)
	return err
}

// wake tells the leading relay of a commit: by a call if it is ours.
func (s *service) wake() {
	if s.relay.Status().Leading {
		s.relay.Wake()
		return
	}
	s.ringer.Notify()
}

// listen keeps the relay's bell listening until ctx ends. Without it the relay
// polls, so that no error of it is one of the service.
func (s *service) listen(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.bell.Run(ctx, s.relay.Wake); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "doorbell stopped; the relay polls", "postgres", s.cfg.postgresAddr(), "error", err, "again_in", longestGap.String())
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
