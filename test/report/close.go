package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// progress mentions the packages that have been running for a while.
func (r *report) progress() {
	for _, name := range slices.Sorted(maps.Keys(r.packages)) {
		p := r.packages[name]
		took := r.now().Sub(p.began)
		if took < progressEvery {
			continue
		}
		done, last := 0, ""
		for _, t := range p.order {
			if t.result != "" {
				done++
			} else if last == "" || strings.HasPrefix(t.name, last+"/") {
				last = t.name
			}
		}
		line := fmt.Sprintf("…     %s %s (%d tests done", short(name), took.Round(time.Second), done)
		if last != "" {
			line += ", in " + last
		}
		fmt.Fprintln(r.out, line+")")
	}
}

// close prints the end of the report and returns the exit code.
func (r *report) close(runDir string) int {
	for _, name := range slices.Sorted(maps.Keys(r.packages)) { // the stream was cut off
		r.failPackage(r.packages[name], event{Elapsed: r.now().Sub(r.packages[name].began).Seconds()})
	}
	fmt.Fprintln(r.out)
	r.list("failed", r.failures)
	r.list("skipped", r.skips)
	r.list("servers", servers(runDir))
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.failed > 0 || r.passed == 0 {
		return 1
	}
	return 0
}

func (r *report) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(r.out, title+":")
	for _, line := range lines {
		fmt.Fprintln(r.out, "  "+line)
	}
	fmt.Fprintln(r.out)
}

// servers reads what the harness left in the run's folder.
func servers(runDir string) []string {
	if runDir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(runDir, "servers"))
	if err != nil {
		return []string{"none was used"}
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	slices.Sort(lines)
	return slices.Compact(lines)
}
