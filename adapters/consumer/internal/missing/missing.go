// Package missing has what stands for a handler function that was not given: a
// Router refuses it, and on a stock router it fails forevery message instead of
// causing a panic. Reference code: no compatibility promise.
package missing

import (
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-go/millrace/outbox/record"
)

var errMissing = errors.New("the handler's function is nil")

// Handler stands for a handler of single messages.
func Handler(*message.Message) error { return errMissing }

// Batch stands for a handler of batches.
func Batch(*record.Batch) error { return errMissing }
