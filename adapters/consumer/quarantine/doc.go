// Package quarantine keeps the order of keys through dead letters.
//
// Without it a dead letter is passed by: later records of its key are handled,
// and its replay comes after them. With it they become dead letters too, with the
// disposition "quarantined", while other keys flow; a replay then handles the
// dead one first and the others behind it, each in its turn. It is chosen handler
// by handler:
//
//	router.Handle(name, topic, sub, fn, consumer.WithAround(q.Middleware()))
//
// A record is handled only if no record of its key and partition with a lower
// original offset waits. [Store] lists what waits and gives records up.
package quarantine
