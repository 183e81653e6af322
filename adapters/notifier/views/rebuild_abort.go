package views

import (
	"context"
	"fmt"
)

// AbortResult tells what an Abort removed, or in a plan would remove.
type AbortResult struct {
	View string `json:"view"`
	// Removed is the unfinished generation; empty if there is none.
	Removed string `json:"removed"`
	// Former are generations that do not answer any more and were not removed to the
	// end, the one that answered last first.
	Former []string `json:"former"`
	// Answers is the generation that goes on answering; empty in a plan for a view
	// that has none yet.
	Answers string `json:"answers"`
}

// PlanAbort tells what Abort would do, and changes nothing.
func (r *Rebuilder) PlanAbort(ctx context.Context) (AbortResult, error) {
	found, err := r.look(ctx)
	if err != nil {
		return AbortResult{View: r.p.name}, fmt.Errorf("abort the rebuild of %s: %w", r.p.name, err)
	}
	return r.aborted(found), nil
}

// Abort removes an unfinished generation and what is left of former ones. It is
// ErrRebuilding while a Run is under way.
func (r *Rebuilder) Abort(ctx context.Context) (AbortResult, error) {
	res := AbortResult{View: r.p.name}
	err := r.claimed(ctx, func(ctx context.Context) error {
		found, err := r.look(ctx)
		if err != nil {
			return err
		}
		res = r.aborted(found)
		if found.Next != "" {
			if err := r.p.Drop(ctx, found.Next); err != nil {
				return err
			}
		}
		return r.sweep(ctx, found)
	})
	if err != nil {
		return res, fmt.Errorf("abort the rebuild of %s: %w", r.p.name, err)
	}
	return res, nil
}

func (r *Rebuilder) aborted(found progress) AbortResult {
	res := AbortResult{View: r.p.name, Removed: found.Next, Former: []string{}, Answers: found.Live}
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
