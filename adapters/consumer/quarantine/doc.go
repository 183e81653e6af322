// Package quarantine keeps the order of keys through dead letters.
//
// Without a quarantine, the later records of a dead letter's key are handled, and the
// replay of the dead letter comes after them. With a quarantine, they become dead
// letters too, with the disposition "quarantined", while other keys are handled. A
// replay then handles the first dead letter of the key, and then the others in their
// order. Each handler chooses:
//
//	router.Handle(name, topic, sub, fn, consumer.WithAround(q.Middleware()))
//
// A record is handled only if no record of its key and partition with a lower
// original offset waits. [Quarantine.List] shows which records wait, and
// [Quarantine.Release] gives some of them up.
//
// Reference code: no compatibility promise before 1.0.
package quarantine
