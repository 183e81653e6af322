package cli

import (
	"context"
	"fmt"

	"github.com/millrace-go/millrace/adapters/notifier/views"
)

// abortReport is what rebuild --abort prints.
type abortReport struct {
	views.AbortResult
	DryRun bool `json:"dry_run"`
}

func (c *call) abortRebuild(ctx context.Context, rebuilder *views.Rebuilder, r *rebuildFlags) error {
	act := rebuilder.PlanAbort
	if r.yes {
		act = rebuilder.Abort
	}
	res, err := act(ctx)
	if err != nil {
		return err
	}
	if r.asJSON {
		return printJSON(c.Out, abortReport{res, !r.yes})
	}
	did := "would remove"
	if r.yes {
		did = "removed"
	}
	if res.Removed == "" {
		_, err = fmt.Fprintf(c.Out, "view %s has no unfinished generation\n", res.View)
	} else {
		_, err = fmt.Fprintf(c.Out, "%s generation %s of %s\n", did, res.Removed, res.View)
	}
	for _, former := range res.Former {
		fmt.Fprintf(c.Out, "%s what is left of generation %s, which answered before\n", did, former)
	}
	if res.Answers != "" {
		fmt.Fprintf(c.Out, "generation %s answers, before and after\n", res.Answers)
	}
	if !r.yes && (res.Removed != "" || len(res.Former) > 0) {
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
	}
	return err
}
