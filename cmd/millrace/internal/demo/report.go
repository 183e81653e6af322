package demo

import (
	"fmt"

	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// Report is the outcome of a demonstration. Its JSON keys are part of the
// command's interface.
type Report struct {
	Committed    int           `json:"committed"` // events in the outbox
	Delivered    int           `json:"delivered"` // different events in Kafka
	Lost         int           `json:"lost"`
	Reordered    int           `json:"reordered"`
	Duplicates   int           `json:"duplicates"`
	Planted      int64         `json:"poison_planted"`
	DeadLettered int64         `json:"dead_lettered"`
	Replayed     int64         `json:"replayed"`
	ViewsChecked int           `json:"views_checked"`
	ViewsWrong   int           `json:"views_wrong"`
	Sends        Sends         `json:"sends"`
	Latency      Latency       `json:"latency_ms"`
	Servers      servers.Names `json:"servers"`

	Witnesses []string `json:"-"` // the first few wrongs, in words

	answered int64 // events whose writer was told that they are committed
	rolled   int64 // transactions rolled back on purpose
	ghosts   int   // events in Kafka that nobody committed
}

// Latency is the time from the answer to a commit until an outside consumer has
// the event, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Verdict is one promise and whether it was kept.
type Verdict struct {
	Promise string
	Seen    string
	Kept    bool
}

// Verdicts judges promise by promise.
func (r *Report) Verdicts() []Verdict {
	return []Verdict{
		{
			"every committed event is published", fmt.Sprintf("%d commits answered, %d events stored, %d lost", r.answered, r.Committed, r.Lost),
			r.Lost == 0 && int64(r.Committed) >= r.answered,
		},
		{
			"nothing else is published", fmt.Sprintf("%d transactions rolled back on purpose, %d unknown events seen", r.rolled, r.strangers()),
			r.strangers() == 0,
		},
		{"events of a key keep their order", fmt.Sprintf("%d out of order", r.Reordered), r.Reordered == 0},
		{"no duplicates without a crash", fmt.Sprintf("%d duplicates", r.Duplicates), r.Duplicates == 0},
		{
			"what cannot be handled is kept", fmt.Sprintf("%d poison messages, %d dead letters", r.Planted, r.DeadLettered),
			r.Planted == r.DeadLettered,
		},
		{
			"dead letters can be replayed", fmt.Sprintf("%d of %d replayed", r.Replayed, r.DeadLettered),
			r.Replayed == r.DeadLettered,
		},
		{
			"Redis equals Postgres", fmt.Sprintf("%d views compared, %d wrong", r.ViewsChecked, r.ViewsWrong),
			r.ViewsWrong == 0 && r.ViewsChecked > 0,
		},
		{
			"what is to be sent is sent once",
			fmt.Sprintf("%d notifications, %d requests to a gateway with faults, %d sent twice, %d not", r.Sends.Requested, r.Sends.Requests, r.Sends.Twice, r.Sends.Unsent),
			r.Sends.Twice == 0 && r.Sends.Unsent == 0 && r.Sends.Requested > 0,
		},
	}
}

// strangers counts events that are in Kafka, or stored, although no writer was
// told that they are committed.
func (r *Report) strangers() int {
	return r.ghosts + max(r.Committed-int(r.answered), 0)
}

// OK reports that every promise was kept.
func (r *Report) OK() bool {
	for _, v := range r.Verdicts() {
		if !v.Kept {
			return false
		}
	}
	return true
}
