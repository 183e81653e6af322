package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const module = "github.com/millrace-go/millrace/"

func lines(events ...string) string { return strings.Join(events, "\n") + "\n" }

func reported(t *testing.T, stream string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	code := run(strings.NewReader(stream), &out, t.TempDir())
	return out.String(), code
}

func lastLine(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return all[len(all)-1]
}

func TestReport_CountsAPassingPackage(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"Action":"start","Package":"`+module+`outbox"}`,
		`{"Action":"run","Package":"`+module+`outbox","Test":"TestA"}`,
		`{"Action":"output","Package":"`+module+`outbox","Test":"TestA","Output":"chatter\n"}`,
		`{"Action":"pass","Package":"`+module+`outbox","Test":"TestA","Elapsed":0.1}`,
		`{"Action":"pass","Package":"`+module+`outbox","Elapsed":1.23}`,
	))
	require.Zero(t, code)
	require.Contains(t, out, "ok    outbox 1.2s (1 tests)\n")
	require.NotContains(t, out, "chatter")
	require.Equal(t, "1 passed, 0 failed, 0 skipped", lastLine(out))
}

func TestReport_ShowsWhatAFailedTestSaid(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"Action":"output","Package":"`+module+`outbox","Test":"TestGood","Output":"good chatter\n"}`,
		`{"Action":"pass","Package":"`+module+`outbox","Test":"TestGood"}`,
		`{"Action":"output","Package":"`+module+`outbox","Test":"TestBad","Output":"    a_test.go:7: no row\n"}`,
		`{"Action":"fail","Package":"`+module+`outbox","Test":"TestBad"}`,
		`{"Action":"output","Package":"`+module+`outbox","Output":"FAIL\n"}`,
		`{"Action":"fail","Package":"`+module+`outbox","Elapsed":2}`,
	))
	require.Equal(t, 1, code)
	require.Contains(t, out, "FAIL  outbox 2.0s\n")
	require.Contains(t, out, "a_test.go:7: no row")
	require.Contains(t, out, "failed:\n  outbox TestBad\n")
	require.NotContains(t, out, "good chatter")
	require.Equal(t, "1 passed, 1 failed, 0 skipped", lastLine(out))
}

func TestReport_ShowsBuildErrors(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"ImportPath":"p [p.test]","Action":"build-output","Output":"p_test.go:3:1: undefined: x\n"}`,
		`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
		`{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p [p.test]"}`,
	))
	require.Equal(t, 1, code)
	require.Contains(t, out, "undefined: x")
	require.Equal(t, "0 passed, 1 failed, 0 skipped", lastLine(out))
}

func TestReport_CountsAPackageThatFailsAfterItsTests(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"Action":"pass","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Output":"harness: goroutines were left behind\n"}`,
		`{"Action":"fail","Package":"p","Elapsed":1}`,
	))
	require.Equal(t, 1, code)
	require.Contains(t, out, "goroutines were left behind")
	require.Equal(t, "1 passed, 1 failed, 0 skipped", lastLine(out))
}

func TestReport_CountsTestsThatWereRunningWhenTheirPackageDied(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"Action":"run","Package":"p","Test":"TestHangs"}`,
		`{"Action":"output","Package":"p","Test":"TestHangs","Output":"panic: test timed out\n"}`,
		`{"Action":"fail","Package":"p","Elapsed":1200}`,
	))
	require.Equal(t, 1, code)
	require.Contains(t, out, "panic: test timed out")
	require.Contains(t, out, "failed:\n  p TestHangs\n")
}

func TestReport_ShowsAFailureThoughTheTestPassesTheNextTime(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"Action":"output","Package":"p","Test":"TestA","Output":"a_test.go:7: no row\n"}`,
		`{"Action":"fail","Package":"p","Test":"TestA"}`,
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"pass","Package":"p","Test":"TestA"}`,
		`{"Action":"fail","Package":"p","Elapsed":1}`,
	))
	require.Equal(t, 1, code)
	require.Contains(t, out, "a_test.go:7: no row")
	require.Contains(t, out, "failed:\n  p TestA\n\n")
	require.Equal(t, "1 passed, 1 failed, 0 skipped", lastLine(out))
}

func TestReport_FailsWhenTheStreamIsCutOff(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"Action":"pass","Package":"p","Test":"TestA"}`,
		`{"Action":"run","Package":"p","Test":"TestB"}`,
	))
	require.Equal(t, 1, code)
	require.Equal(t, "1 passed, 1 failed, 0 skipped", lastLine(out))
}

func TestReport_ListsSkippedTestsWithReasons(t *testing.T) {
	t.Parallel()
	out, code := reported(t, lines(
		`{"Action":"pass","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:9: needs netem: not on this kernel\n"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestB"}`,
		`{"Action":"pass","Package":"p","Elapsed":1}`,
	))
	require.Zero(t, code)
	require.Contains(t, out, "skipped:\n  p TestB: needs netem: not on this kernel\n")
	require.Equal(t, "1 passed, 0 failed, 1 skipped", lastLine(out))
}

func TestReport_FailsIfNothingRan(t *testing.T) {
	t.Parallel()
	_, code := reported(t, lines(`{"Action":"skip","Package":"p"}`))
	require.Equal(t, 1, code)
	out, code := reported(t, "go: no such tool\n")
	require.Equal(t, 1, code)
	require.Contains(t, out, "go: no such tool")
}

func TestReport_ListsEachServerOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	served := "redis 7 (a)\nkafka 4.4.0 (b)\nredis 7 (a)\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "servers"), []byte(served), 0o600))
	var out bytes.Buffer
	run(strings.NewReader(lines(`{"Action":"pass","Package":"p","Test":"TestA"}`, `{"Action":"pass","Package":"p"}`)), &out, dir)
	require.Contains(t, out.String(), "servers:\n  kafka 4.4.0 (b)\n  redis 7 (a)\n\n")
}

func TestReport_MentionsPackagesThatTakeLong(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var out bytes.Buffer
	r := newReport(&out, func() time.Time { return now })
	r.take(event{Action: "start", Package: "slow"})
	r.take(event{Action: "run", Package: "slow", Test: "TestA"})
	r.take(event{Action: "pass", Package: "slow", Test: "TestA"})
	r.take(event{Action: "run", Package: "slow", Test: "TestB"})
	r.take(event{Action: "run", Package: "slow", Test: "TestB/sub"})
	now = now.Add(45 * time.Second)
	r.take(event{Action: "start", Package: "fresh"})
	r.progress()
	require.Equal(t, "…     slow 45s (1 tests done, in TestB/sub)\n", out.String())
}
