package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is one line of test2json; see go doc test2json and go help buildjson.
type event struct {
	Action      string
	Package     string
	Test        string
	Elapsed     float64
	Output      string
	ImportPath  string // of build-output
	FailedBuild string // of a package's fail
}

// report is what is known so far.
type report struct {
	out      io.Writer
	now      func() time.Time
	packages map[string]*pkg
	builds   map[string][]string // output of the compiler by import path
	said     map[string]bool     // lines of the harness that were passed on

	passed, failed, skipped int
	failures                []string // "package Test"
	skips                   []string // "package Test: reason"
}

// pkg is one package's tests.
type pkg struct {
	name   string
	began  time.Time
	output []string
	tests  map[string]*test
	order  []*test
}

// test is one test or subtest.
type test struct {
	name, result string // result: "", pass, fail, skip
	output       []string
}

func newReport(out io.Writer, now func() time.Time) *report {
	return &report{out: out, now: now, packages: map[string]*pkg{}, builds: map[string][]string{}, said: map[string]bool{}}
}

// plain passes on what is no event.
func (r *report) plain(line string) { fmt.Fprintln(r.out, strings.TrimRight(line, "\n")) }

// take counts one event.
func (r *report) take(e event) {
	switch {
	case e.Action == "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case e.Action == "build-fail" || e.Package == "":
	case e.Test != "":
		r.takeTest(r.pkg(e.Package), e)
	default:
		r.takePackage(r.pkg(e.Package), e)
	}
}

func (r *report) pkg(name string) *pkg {
	p, ok := r.packages[name]
	if !ok {
		p = &pkg{name: name, began: r.now(), tests: map[string]*test{}}
		r.packages[name] = p
	}
	return p
}

func (r *report) takeTest(p *pkg, e event) {
	t, ok := p.tests[e.Test]
	if !ok {
		t = &test{name: e.Test}
		p.tests[e.Test], p.order = t, append(p.order, t)
	}
	switch e.Action {
	case "output":
		r.passOn(e.Output)
		t.output = append(t.output, e.Output)
	case "pass":
		r.passed++
		if t.result != "fail" { // with -count it may have, before
			t.result, t.output = "pass", nil
		}
	case "skip":
		r.skipped++
		t.result = "skip"
		r.skips = append(r.skips, short(p.name)+" "+t.name+": "+reason(t.output))
	case "fail":
		r.fail(p, t)
	}
}

func (r *report) fail(p *pkg, t *test) {
	r.failed++
	t.result = "fail"
	r.failures = append(r.failures, short(p.name)+" "+t.name)
}

func (r *report) takePackage(p *pkg, e event) {
	switch e.Action {
	case "output":
		r.passOn(e.Output)
		p.output = append(p.output, e.Output)
	case "pass":
		fmt.Fprintf(r.out, "ok    %s %.1fs (%d tests)\n", short(p.name), e.Elapsed, len(p.order))
		delete(r.packages, p.name)
	case "skip": // no test files
		delete(r.packages, p.name)
	case "fail":
		r.failPackage(p, e)
		delete(r.packages, p.name)
	}
}

// failPackage prints all that may tell why. A test without a result was running
// when the package came to its end, and a package can fail while its tests pass.
func (r *report) failPackage(p *pkg, e event) {
	before := r.failed
	for _, t := range p.order {
		if t.result == "" {
			r.fail(p, t)
		}
	}
	if r.failed == before && !slices.ContainsFunc(p.order, func(t *test) bool { return t.result == "fail" }) {
		r.failed++
		r.failures = append(r.failures, short(p.name))
	}
	fmt.Fprintf(r.out, "FAIL  %s %.1fs\n", short(p.name), e.Elapsed)
	r.indent(r.builds[e.FailedBuild])
	for _, t := range p.order {
		if t.result == "fail" {
			r.indent(t.output)
		}
	}
	r.indent(p.output)
}

func (r *report) indent(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(r.out, "      "+strings.TrimRight(line, "\n"))
	}
}

// passOn prints the harness's own lines at once: which server serves, what is
// being downloaded. Several packages say the same.
func (r *report) passOn(line string) {
	line = strings.TrimRight(line, "\n")
	if strings.HasPrefix(line, "harness: ") && !r.said[line] {
		r.said[line] = true
		fmt.Fprintln(r.out, "      "+line)
	}
}

// reason is what a skipped test gave as its reason.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, text, ok := strings.Cut(line, ".go:"); ok { // file.go:12: text
			if _, text, ok = strings.Cut(text, ": "); ok {
				return text
			}
		}
		return line
	}
	return "no reason given"
}

// short leaves the module's name out.
func short(pkg string) string {
	const module = "github.com/millrace-go/millrace"
	return strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
}
