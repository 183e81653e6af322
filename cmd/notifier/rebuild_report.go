package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/millrace-go/millrace/adapters/cache/rebuild"
)

// buildReport is what rebuild prints.
type buildReport struct {
	rebuild.Result
	DryRun bool `json:"dry_run"`
}

// abortReport is what rebuild --abort prints.
type abortReport struct {
	rebuild.AbortResult
	DryRun bool `json:"dry_run"`
}

func (f *rebuildFlags) reportBuild(p Process, res buildReport, err error) error {
	if f.asJSON {
		return errors.Join(printJSON(p.Out, res), err)
	}
	if err != nil {
		return err
	}
	if res.DryRun {
		what := "begin a generation"
		if res.Resumed {
			what = "go on with generation " + res.Generation
		}
		fmt.Fprintln(p.Err, "nothing was changed: give --yes to do it")
		_, err = fmt.Fprintf(p.Out, "would %s of %s with positions %d to %d\n", what, res.View, res.Next, res.To)
		return err
	}
	text := fmt.Sprintf("folded %d events of positions %d to %d into generation %s of %s, %.0f a second\n",
		res.Events, res.From, res.Next-1, res.Generation, res.View, res.PerSecond)
	if res.Undecodable > 0 {
		fmt.Fprintf(p.Err, "%d events cannot be decoded and are not in the view, the first at position %d\n", res.Undecodable, res.Example)
	}
	if res.Flipped {
		text += fmt.Sprintf("it answers now; removed generation %s\n", res.Removed)
	} else {
		fmt.Fprintln(p.Err, "the log goes on after --to: the generation does not answer; give the command without --to to finish it")
	}
	_, err = io.WriteString(p.Out, text)
	return err
}

func (f *rebuildFlags) abortBuild(ctx context.Context, p Process, builder *rebuild.Builder) error {
	abort, verb := builder.PlanAbort, "would remove"
	if f.yes {
		abort, verb = builder.Abort, "removed"
	}
	res, err := abort(ctx)
	if err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(p.Out, abortReport{res, !f.yes})
	}
	var text strings.Builder
	if res.Removed == "" {
		fmt.Fprintf(&text, "view %s has no unfinished generation\n", res.View)
	} else {
		fmt.Fprintf(&text, "%s generation %s of %s\n", verb, res.Removed, res.View)
	}
	for _, former := range res.Former {
		fmt.Fprintf(&text, "%s what is left of the former generation %s\n", verb, former)
	}
	if res.Answers != "" {
		fmt.Fprintf(&text, "generation %s answers, before and after\n", res.Answers)
	}
	if !f.yes && (res.Removed != "" || len(res.Former) > 0) {
		fmt.Fprintln(p.Err, "nothing was changed: give --yes to do it")
	}
	_, err = io.WriteString(p.Out, text.String())
	return err
}

// printJSON writes v as one indented object.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// rebuildBar shows progress: a bar on a terminal, elsewhere a line every five
// seconds.
type rebuildBar struct {
	w        io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	shown    time.Time
}

func newRebuildBar(w io.Writer) *rebuildBar {
	f, ok := w.(*os.File)
	return &rebuildBar{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// show is a Builder's OnProgress. The bar counts positions.
func (b *rebuildBar) show(res rebuild.Result) {
	if !b.terminal {
		if time.Since(b.shown) >= 5*time.Second {
			b.shown = time.Now()
			fmt.Fprintf(b.w, "rebuild %s: position %d of %d, %.0f events a second\n", res.View, res.Next-1, res.To, res.PerSecond)
		}
		return
	}
	length := max(res.To-res.From+1, 1) // a bar of length 0 would be a spinner
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
