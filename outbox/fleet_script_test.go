package outbox

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestBalance_Scripts runs the scripts in testdata/balance: a fleet whose instances
// i1, i2, … lead outboxes 0, 1, … With -rewrite the test writes what it saw into the
// scripts.
//
// The commands of a script, one a line:
//
//	outboxes 4        the fleet serves outboxes 0 to 3
//	join              another instance starts
//	kill i1           i1 dies
//	stop i1           i1 stops gracefully
//	freeze i1 10s     i1 stands still for so long
//	run 20s           time passes; prints the hand-overs, and who leads what after them
func TestBalance_Scripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/balance", func(t *testing.T, path string) {
		s := &balanceScript{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				if err := s.do(&out, strings.Fields(line)); err != nil {
					d.Fatalf(t, "%s: %v", strings.TrimSpace(line), err)
				}
			}
			return out.String()
		})
	})
}

type balanceScript struct {
	world  *world
	all    []*simInstance // in the order of joining
	begins time.Time
	shown  int // hand-overs of world.history that were printed
}

func (s *balanceScript) do(out *strings.Builder, words []string) error {
	switch words[0] {
	case "outboxes":
		n, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		s.world = newWorld(1, n)
		s.begins = s.world.now
	case "join":
		s.all = append(s.all, s.world.join())
	case "run":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		s.world.run(d)
		s.show(out)
	default:
		return s.disturb(words)
	}
	return nil
}

// disturb does something to one instance.
func (s *balanceScript) disturb(words []string) error {
	n, err := strconv.Atoi(strings.TrimPrefix(words[1], "i"))
	if err != nil || n < 1 || n > len(s.all) {
		return fmt.Errorf("there is no instance %q", words[1])
	}
	switch in := s.all[n-1]; words[0] {
	case "kill":
		s.world.kill(in)
	case "stop":
		s.world.stop(in)
	case "freeze":
		d, err := time.ParseDuration(words[2])
		if err != nil {
			return err
		}
		s.world.freeze(in, d)
	default:
		return fmt.Errorf("%q is not a command", words[0])
	}
	return nil
}

// show prints the new hand-overs, and the outboxes that each instance leads.
func (s *balanceScript) show(out *strings.Builder) {
	var pairs []string
	for i, in := range s.all {
		pairs = append(pairs, in.id, fmt.Sprint("i", i+1))
	}
	names := strings.NewReplacer(pairs...)
	for _, h := range s.world.history[s.shown:] {
		_, what, _ := strings.Cut(h, " ") // without the time
		fmt.Fprintln(out, names.Replace(what))
	}
	s.shown = len(s.world.history)
	fmt.Fprintf(out, "after %s:", s.world.now.Sub(s.begins))
	for _, in := range s.all {
		leads := "none"
		if mine := s.leads(in); len(mine) > 0 {
			leads = strings.Trim(fmt.Sprint(mine), "[]")
		}
		fmt.Fprintf(out, " %s leads %s;", names.Replace(in.id), leads)
	}
	_, unled := s.world.spread()
	fmt.Fprintf(out, " %d without a leader\n", unled)
}

func (s *balanceScript) leads(in *simInstance) (outboxes []int) {
	for i, o := range s.world.outbox {
		if o.until.After(s.world.now) && instanceOf(o.owner) == in.id {
			outboxes = append(outboxes, i)
		}
	}
	return outboxes
}
