package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// Every view is rebuilt from the log by processes of their own, while two nodes
// of the reference service go on: stopped at a position, given up, killed, taken up
// again. Nobody who reads sees anything go back, and in the end each view is what
// plain SQL makes of the log.
func TestRebuild_OfEveryViewGoesUnnoticedByThoseWhoReadThem(t *testing.T) {
	t.Parallel()
	c := newRebuildService(t)
	const past = 12_000 // events
	c.fill(t, past)
	for _, p := range c.rebuildAll(t, "--yes", "--json") {
		r := p.report(t)
		require.True(t, r.Flipped)
		require.Equal(t, []int64{past, 1}, []int64{r.Events, r.From})
	}
	c.relayFrom(t, past)
	stop := c.open(t)
	c.awaitNotifications(t, 100)
	answers := c.answering(t)

	for _, p := range c.rebuildAll(t, "--yes", "--json", "--from", "101", "--to", "5000") { // a part of the log
		r := p.report(t)
		require.False(t, r.Flipped)
		require.Equal(t, []int64{101, 5000, 5001, 4900}, []int64{r.From, r.To, r.Next, r.Events})
	}
	require.Equal(t, answers, c.answering(t), "a part does not answer")
	for _, p := range c.rebuildAll(t, "--abort", "--yes", "--json") {
		require.Equal(t, answers[p.view], p.report(t).Answers)
	}
	require.Equal(t, answers, c.answering(t))

	c.slow.Delay(2 * time.Millisecond) // of the command alone: so it has not got far when it is killed
	killed := c.rebuildAll(t, "--yes", "--json", "--batch", "20")
	got := map[string]int64{}
	for _, p := range killed {
		harness.Await(t, liveness, "the rebuild is under way", func(context.Context) error {
			if got[p.view] = c.position(t, p.view); got[p.view] < past/10 {
				return fmt.Errorf("at %d", got[p.view])
			}
			return nil
		})
		p.Kill()
		require.Empty(t, p.Stdout(), "it had not come to its end")
	}
	require.NoError(t, c.slow.Heal())
	require.Equal(t, answers, c.answering(t), "the former goes on answering")

	for _, dead := range killed {
		generation := c.state(t, dead.view)["next"]
		r := c.rebuildAgain(t, dead.view)
		require.True(t, r.Resumed && r.Flipped)
		require.Equal(t, generation, r.Generation)
		require.Equal(t, answers[dead.view], r.Removed)
		require.EqualValues(t, 1, r.From)
		require.LessOrEqual(t, r.Events, r.Next-got[dead.view], "it did not begin again")
		require.Equal(t, generation, c.answering(t)[dead.view])
	}
	c.awaitLooks(t, 200)
	stop()
	c.compare(t)
}

// rebuilding is a `notifier rebuild` under way.
type rebuilding struct {
	*lab.Program
	view string
}

// rebuiltReport is what it prints at the end.
type rebuiltReport struct {
	Generation       string
	Resumed, Flipped bool
	From, To, Next   int64
	Events           int64
	Removed, Answers string
}

func (p *rebuilding) report(t *testing.T) (r rebuiltReport) {
	t.Helper()
	require.Zero(t, p.Wait(liveness), p.Stderr())
	require.NoError(t, json.Unmarshal([]byte(p.Stdout()), &r))
	return r
}

func (c *rebuildService) rebuild(t *testing.T, view string, args ...string) *rebuilding {
	t.Helper()
	args = append([]string{"rebuild", view, "--postgres", c.db.DSN, "--redis", c.slowURL(), "--topic", c.cfg.Topic}, args...)
	return &rebuilding{lab.StartProgram(t, lab.ProgramConfig{Path: c.bin, Args: args}), view}
}

// rebuildAll starts one for each view.
func (c *rebuildService) rebuildAll(t *testing.T, args ...string) (all []*rebuilding) {
	t.Helper()
	for _, view := range rebuiltViews {
		all = append(all, c.rebuild(t, view, args...))
	}
	return all
}

// rebuildAgain gives the command until it is not refused any more.
func (c *rebuildService) rebuildAgain(t *testing.T, view string) (r rebuiltReport) {
	t.Helper()
	harness.Await(t, liveness, "the lock of the killed process ends", func(context.Context) error {
		p := c.rebuild(t, view, "--yes", "--json")
		if p.Wait(liveness) != 0 {
			require.Contains(t, p.Stderr(), "being rebuilt by another process")
			return errors.New(p.Stderr())
		}
		r = p.report(t)
		return nil
	})
	return r
}
