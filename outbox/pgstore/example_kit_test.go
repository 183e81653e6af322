package pgstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// exampleTest stands for the *testing.T that an example does not have. What the
// harness reports goes to the example's output.
type exampleTest struct {
	testing.TB
	ctx      context.Context
	cancel   context.CancelFunc
	cleanups []func()
}

func newTest() *exampleTest {
	t := &exampleTest{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// end does what the testing package does when a test ends.
func (t *exampleTest) end() {
	t.cancel()
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}

func (t *exampleTest) Helper()                   {}
func (t *exampleTest) Name() string              { return "Example" }
func (t *exampleTest) Context() context.Context  { return t.ctx }
func (t *exampleTest) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleTest) Log(args ...any)           { fmt.Println(args...) }
func (t *exampleTest) Error(args ...any)         { fmt.Println(args...) }
func (t *exampleTest) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }
func (t *exampleTest) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (t *exampleTest) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
