// Package quarantine keeps the order of keys through dead letters.
//
// Without it later records of a dead letter's key are handled, and its replay comes
// after them. With it they become dead letters too, with the disposition
// "quarantined", while other keys are handled. A replay then handles the first dead
// letter and the others after it, each in its turn. It is chosen for each handler:
//
//	router.Handle(name, topic, sub, fn, consumer.WithAround(q.Middleware()))
//
// A record is handled only if no record of its key and partition with a lower
// original offset waits. [Store] lists what waits and releases records.
//
// Reference code: no compatibility promise before 1.0.
package quarantine
