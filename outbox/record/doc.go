// Package record holds the exact form of a message on the wire and the delivery
// of many messages at once. It is the leaf that subscribers and handlers share:
// package kafka fills it, package consumer reads it, neither imports the other.
//
// A [Record] travels in the context of the Watermill message that it came with:
// [With] puts it there, [From] finds it. A [Batch] is what a batch subscriber
// delivers.
package record
