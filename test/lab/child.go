package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// envChild holds the spec of a child.
const envChild = "MILLRACE_TEST_CHILD"

// StartChild starts the running test program once more, as a process of its own,
// which can be frozen and killed. There RunChild hands spec, in the form of JSON,
// to its function. The process is killed at the end of the test at the latest.
func StartChild(t testing.TB, spec any) *Program {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatalf("lab: spec of a child: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return StartProgram(t, ProgramConfig{Path: self, Interactive: true, Env: []string{envChild + "=" + string(text)}})
}

// RunChild returns at once unless StartChild started this process. If so, it calls
// run, whose context ends with SIGTERM, and exits, with code 1 and the error on
// stderr if run fails. Call it first in TestMain.
func RunChild[Spec any](run func(ctx context.Context, spec Spec) error) {
	text := os.Getenv(envChild)
	if text == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	var spec Spec
	err := json.Unmarshal([]byte(text), &spec)
	if err == nil {
		err = run(ctx, spec)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
