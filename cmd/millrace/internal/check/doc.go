// Package check judges from outside whether a pipeline kept its promises. It
// reads Kafka with a client of its own (franz-go, not the one the pipeline uses)
// and decodes records by the documented headers alone, so that one defect cannot
// hide itself.
package check
