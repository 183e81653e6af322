package kafka

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/outbox/record"
)

// windowScript runs the scripts in testdata/window. A record is written as
// OFFSET(KEY); "-" is a record without a key. The commands are:
//
//	window concurrency=N [ahead=N] [buffer=N] [backoff=D] [max-backoff=D]
//	records OFFSET(KEY)...     they arrive from the broker
//	take [limit=N] [unread]    the next delivery, handed over unless it is unread
//	ack D | nack D             answer every message of delivery D
//	answer D ack=(OFFSET,...)  finish delivery D: these are acked, the others nacked
//	release D ack=(OFFSET,...) release batch D, of which these are acked
//	put-back D                 nobody read delivery D
//	clock D                    time passes
//	stop                       the partition moves away
//
// Each prints the window's state: "commit" is the low-water mark.
type windowScript struct {
	w          *window
	now        time.Time
	deliveries map[string][]*consumed
	released   map[string]bool
	paused     bool
}

// TestWindow_Scripts explains the window by examples. With -rewrite it writes what
// the window does into the scripts.
func TestWindow_Scripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/window", func(t *testing.T, path string) {
		s := &windowScript{now: time.Unix(0, 0).UTC(), deliveries: map[string][]*consumed{}, released: map[string]bool{}}
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *windowScript) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	out := ""
	switch d.Cmd {
	case "window":
		s.open(t, d)
	case "records":
		for _, r := range d.CmdArgs {
			s.w.add(parseRecord(t, r.String()))
		}
	case "take":
		out = s.take(t, d)
	case "ack", "nack", "answer":
		s.answer(t, d)
	case "release":
		s.release(t, d)
	case "put-back":
		s.w.putBack(s.deliveries[d.CmdArgs[0].Key])
	case "clock":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		require.NoError(t, err, d.Pos)
		s.now = s.now.Add(by)
	case "stop":
		s.w.close()
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return out + s.state()
}

func (s *windowScript) open(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	concurrency, ahead, buffer, first, limit := 1, 100, 100, "100ms", "1s"
	d.ScanArgs(t, "concurrency", &concurrency)
	d.MaybeScanArgs(t, "ahead", &ahead)
	d.MaybeScanArgs(t, "buffer", &buffer)
	d.MaybeScanArgs(t, "backoff", &first)
	d.MaybeScanArgs(t, "max-backoff", &limit)
	var b backoff.Doubling
	var err error
	b.First, err = time.ParseDuration(first)
	require.NoError(t, err, d.Pos)
	b.Max, err = time.ParseDuration(limit)
	require.NoError(t, err, d.Pos)
	s.w = newWindow(concurrency, ahead, buffer, b)
}

func parseRecord(t *testing.T, text string) *sarama.ConsumerMessage {
	t.Helper()
	offset, key, ok := strings.Cut(strings.TrimSuffix(text, ")"), "(")
	require.True(t, ok, "%q is not OFFSET(KEY)", text)
	n, err := strconv.ParseInt(offset, 10, 64)
	require.NoError(t, err)
	msg := &sarama.ConsumerMessage{Offset: n}
	if key != "-" {
		msg.Key = []byte(key)
	}
	return msg
}

func (s *windowScript) take(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	limit := 1
	d.MaybeScanArgs(t, "limit", &limit)
	taken := s.w.take(limit, s.now)
	if taken == nil {
		return "nothing\n"
	}
	if !d.HasArg("unread") {
		s.w.handedOver(taken)
	}
	name := fmt.Sprintf("D%d", len(s.deliveries)+1)
	s.deliveries[name] = taken
	line := name + ":"
	for _, r := range taken {
		line += " " + showRecord(r)
		if r.attempt > 1 {
			line += fmt.Sprintf(" (attempt %d)", r.attempt)
		}
	}
	return line + "\n"
}

func showRecord(r *consumed) string {
	key := "-"
	if r.msg.Key != nil {
		key = string(r.msg.Key)
	}
	return fmt.Sprintf("%d(%s)", r.offset, key)
}

// acked returns which of records the command's ack=(…) names.
func acked(t *testing.T, d *datadriven.TestData, records []*consumed) []bool {
	t.Helper()
	out := make([]bool, len(records))
	for _, a := range d.CmdArgs {
		for _, v := range a.Vals {
			i := slices.IndexFunc(records, func(r *consumed) bool { return strconv.FormatInt(r.offset, 10) == v })
			require.GreaterOrEqual(t, i, 0, "%s: no record %s in the delivery", d.Pos, v)
			out[i] = true
		}
	}
	return out
}

func (s *windowScript) answer(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	name := d.CmdArgs[0].Key
	records, ok := s.deliveries[name]
	require.True(t, ok, "%s: no delivery %s", d.Pos, name)
	answers := acked(t, d, records)
	if d.Cmd == "ack" {
		for i := range answers {
			answers[i] = true
		}
	}
	if s.released[name] {
		s.w.finishPart(records, answers, s.now)
	} else {
		s.w.finish(records, answers, s.now)
	}
}

// release does what a claim does for record.Batch.Release: it frees the slot, and
// finishes the lanes in which every record is answered.
func (s *windowScript) release(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	name := d.CmdArgs[0].Key
	del := &delivery{records: s.deliveries[name]}
	del.answered = acked(t, d, del.records)
	del.acked = slices.Clone(del.answered)
	del.messages, del.origin = make([]*message.Message, len(del.records)), make([]*record.Record, len(del.records))
	s.w.freeSlot()
	done := del.split()
	s.w.finishPart(done.records, done.acked, s.now)
	s.deliveries[name], s.released[name] = del.records, true
}

func (s *windowScript) state() string {
	parts := []string{fmt.Sprintf("commit %d", s.w.lowWater)}
	if s.w.waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", s.w.waiting))
	}
	if s.w.inFlight > 0 {
		parts = append(parts, fmt.Sprintf("%d in flight", s.w.inFlight))
	}
	for _, l := range s.w.backingOff.lanes {
		parts = append(parts, fmt.Sprintf("%s backs off for %s", showRecord(l.waiting[0]), max(0, l.wakeAt.Sub(s.now))))
	}
	s.paused = s.w.full() || s.paused && !s.w.low() // as claim.prepare does
	if s.paused {
		parts = append(parts, "fetching paused")
	}
	return strings.Join(parts, ", ") + "\n"
}
