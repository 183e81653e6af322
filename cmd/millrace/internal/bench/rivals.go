package bench

import "time"

// The rivals' names in results.
const (
	nameRelay     = "millrace"
	nameForwarder = "forwarder"
	nameTuned     = "forwarder_tuned"
	nameCeiling   = "ceiling"
)

func (a *drainBench) rivals() []*rival {
	ours := &rival{
		name: nameRelay, topic: topicRelay, run: a.relay,
		note: "the relay with its defaults: acks=all, idempotent, order per key, cursor saved",
	}
	if a.cfg.Child {
		ours.run, ours.note = a.childRelay, ours.note+"; `millrace relay` as a process of its own, its start included"
	}
	if a.cfg.Alone {
		return []*rival{ours}
	}
	byDefault := stock{g: a.serverGroup, group: "default"}
	tuned := stock{g: a.serverGroup, group: "tuned", batch: 1000, poll: time.Millisecond}
	return []*rival{
		ours,
		{
			name: nameForwarder, topic: topicForwarder, run: byDefault.run,
			note: "Watermill forwarder, watermill-sql subscriber to watermill-kafka publisher, all defaults, record key set",
		},
		{
			name: nameTuned, topic: topicForwarder, run: tuned.run,
			note: "the same with a batch of 1000 and a poll interval of 1 ms",
		},
		{
			name: nameCeiling, topic: topicCeiling, run: a.ceiling,
			note: "paged SELECT and asynchronous produce without any guarantee",
		},
	}
}
