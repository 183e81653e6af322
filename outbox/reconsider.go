package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reconsiderer is implemented by sessions that keep parked messages and can release
// them. With it, and a publisher that is a Vetter, a parked message is sent without
// help once the cause is fixed: the topic is created, the limit is raised.
type Reconsiderer interface {
	// Due returns the first message of each parked key whose pause is over. The pause
	// doubles after each refusal, from seconds to an hour.
	Due(ctx context.Context) ([]Entry, error)
	// Reconsidered records the outcome: the keys of accepted messages are redriven, as
	// an operator would do, and refused messages stay parked until they are due again.
	Reconsidered(ctx context.Context, accepted, refused []Entry) error
}

// reconsiderInterval is how often a leader with parked keys asks for those due.
const reconsiderInterval = 5 * time.Second

// reconsider vets parked messages again, regularly, until ctx ends.
func (l *leadership) reconsider(ctx context.Context) {
	session, ok := l.session.(Reconsiderer)
	vetter, can := l.r.pub.(Vetter)
	if !ok || !can {
		return
	}
	for {
		if sleep(ctx, reconsiderInterval); ctx.Err() != nil {
			return
		}
		if !l.anyParked() {
			continue
		}
		if err := l.reconsiderDue(ctx, session, vetter); err != nil && ctx.Err() == nil {
			l.r.cfg.Hooks.Retrying(fmt.Errorf("reconsider parked messages: %w", err), reconsiderInterval)
		}
	}
}

func (l *leadership) reconsiderDue(ctx context.Context, session Reconsiderer, vetter Vetter) error {
	due, err := session.Due(ctx)
	if err != nil || len(due) == 0 {
		return err
	}
	var accepted, refused []Entry
	for i := range due {
		if errors.Is(vetter.Vet(l.work, &due[i]), ErrUnpublishable) {
			refused = append(refused, due[i])
		} else {
			accepted = append(accepted, due[i])
		}
	}
	return session.Reconsidered(ctx, accepted, refused)
}

func (l *leadership) anyParked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked) > 0
}
