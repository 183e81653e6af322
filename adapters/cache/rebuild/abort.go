package rebuild

import (
	"context"
	"fmt"
)

// AbortResult tells what an Abort removed, or in a plan would remove.
type AbortResult struct {
	View string `json:"view"`
	// Removed is the unfinished generation; empty if there is none.
	Removed string `json:"removed"`
	// Former are generations that do not answer any more and were not removed
	// completely, the one that answered last first.
	Former []string `json:"former"`
	// Answers is the generation that goes on answering; empty in a plan for a view
	// that has none yet.
	Answers string `json:"answers"`
}

// PlanAbort tells what Abort would do, and changes nothing.
func (b *Builder) PlanAbort(ctx context.Context) (AbortResult, error) {
	found, err := b.read(ctx)
	if err != nil {
		return AbortResult{View: b.view.Name}, fmt.Errorf("abort the rebuild of %s: %w", b.view.Name, err)
	}
	return b.toRemove(found), nil
}

// Abort removes an unfinished generation and what is left of former ones. It is
// ErrBusy while a Run is under way.
func (b *Builder) Abort(ctx context.Context) (AbortResult, error) {
	res := AbortResult{View: b.view.Name}
	err := b.locked(ctx, func(ctx context.Context) error {
		found, err := b.read(ctx)
		if err != nil {
			return err
		}
		res = b.toRemove(found)
		if found.Next != "" {
			if err := b.tracker.Drop(ctx, b.view.Name, found.Next); err != nil {
				return err
			}
		}
		return b.removeFormer(ctx, found)
	})
	if err != nil {
		return res, fmt.Errorf("abort the rebuild of %s: %w", b.view.Name, err)
	}
	return res, nil
}

func (b *Builder) toRemove(found state) AbortResult {
	res := AbortResult{View: b.view.Name, Removed: found.Next, Former: []string{}, Answers: found.Live}
	if found.Last != "" {
		res.Former = append(res.Former, found.Last)
	}
	for _, generation := range found.ended {
		if generation != found.Next && generation != found.Last {
			res.Former = append(res.Former, generation)
		}
	}
	return res
}

// removeFormer removes what earlier rebuilds left behind.
func (b *Builder) removeFormer(ctx context.Context, found state) error {
	if found.Last != "" {
		if err := b.tracker.Drop(ctx, b.view.Name, found.Last); err != nil {
			return err
		}
	}
	for _, generation := range found.ended {
		if err := b.tracker.Drop(ctx, b.view.Name, generation); err != nil {
			return err
		}
	}
	return nil
}
