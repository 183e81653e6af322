package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reconsiderer is implemented by sessions that keep parked messages and can take
// them back. With it, and a publisher that is a Vetter, a parked message goes its
// way by itself once what refused it is mended: a topic made, a limit raised.
type Reconsiderer interface {
	// Due returns the messages at the head of a parked key that are worth another
	// look: the pause after each doubles, from seconds to an hour.
	Due(ctx context.Context) ([]Entry, error)
	// Reconsidered records the outcome: the keys of the accepted are redriven, as
	// a person would, and the refused wait for their next turn.
	Reconsidered(ctx context.Context, accepted, refused []Entry) error
}

// reconsiderEvery is how often a leader with parked keys looks at those due.
const reconsiderEvery = 5 * time.Second

// reconsider looks at parked messages again, now and then, until ctx ends.
func (l *leadership) reconsider(ctx context.Context) {
	session, ok := l.session.(Reconsiderer)
	vetter, can := l.r.pub.(Vetter)
	if !ok || !can {
		return
	}
	for {
		if sleep(ctx, reconsiderEvery); ctx.Err() != nil {
			return
		}
		if !l.anyParked() {
			continue
		}
		if err := l.look(ctx, session, vetter); err != nil && ctx.Err() == nil {
			if h := l.r.cfg.Hooks.Retrying; h != nil {
				h(fmt.Errorf("reconsider parked messages: %w", err), reconsiderEvery)
			}
		}
	}
}

func (l *leadership) look(ctx context.Context, session Reconsiderer, vetter Vetter) error {
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
