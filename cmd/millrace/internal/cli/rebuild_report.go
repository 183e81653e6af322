package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/cmd/millrace/internal/progress"
)

// rebuildReport is what rebuild prints.
type rebuildReport struct {
	views.RebuildResult
	DryRun bool `json:"dry_run"`
}

func (c *call) reportRebuild(res rebuildReport, r *rebuildFlags, err error) error {
	if r.asJSON {
		return errors.Join(printJSON(c.Out, res), err)
	}
	if err != nil {
		return err
	}
	if res.DryRun {
		what := "begin a generation"
		if res.Resumed {
			what = "go on with generation " + res.Generation
		}
		_, err = fmt.Fprintf(c.Out, "would %s of %s with positions %d to %d\n", what, res.View, res.Next, res.To)
		fmt.Fprintln(c.Err, "nothing was changed: give --yes to do it")
		return err
	}
	_, err = fmt.Fprintf(c.Out, "folded %d events of positions %d to %d into generation %s of %s, %.0f a second\n",
		res.Events, res.From, res.Next-1, res.Generation, res.View, res.PerSecond)
	if res.Undecodable > 0 {
		fmt.Fprintf(c.Err, "%d events cannot be decoded and are not in the view, the first at position %d\n", res.Undecodable, res.Example)
	}
	if !res.Flipped {
		fmt.Fprintln(c.Err, "the log goes on behind --to: the generation does not answer; give the command without --to to finish it")
		return err
	}
	fmt.Fprintf(c.Out, "it answers now; removed generation %s\n", res.Removed)
	return err
}

// rebuildBar is a progress bar on a terminal, and elsewhere a line every few
// seconds.
type rebuildBar struct {
	w    io.Writer
	line *progress.Line // nil on a terminal
	bar  *progressbar.ProgressBar
}

func newRebuildBar(w io.Writer) *rebuildBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &rebuildBar{line: progress.New(w)}
	}
	return &rebuildBar{w: w}
}

// show is a Rebuilder's OnProgress. The bar counts positions.
func (b *rebuildBar) show(res views.RebuildResult) {
	if b.line != nil {
		b.line.Show("rebuild %s: position %d of %d, %.0f events a second", res.View, res.Next-1, res.To, res.PerSecond)
		return
	}
	length := max(res.To-res.From+1, 1) // a bar of nothing would be a spinner
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(length, progressbar.OptionSetWriter(b.w), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetDescription("rebuild "+res.View), progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	b.bar.ChangeMax64(length)
	_ = b.bar.Set64(res.Next - res.From)
}

func (b *rebuildBar) done() {
	if b.bar != nil {
		_ = b.bar.Finish()
		b.bar = nil
	}
}
