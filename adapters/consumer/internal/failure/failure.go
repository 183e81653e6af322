// Package failure has the error of a delivery that is given up, which the router and
// its siblings share. Reference code: no compatibility promise.
package failure

import (
	"fmt"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
)

// Error is the error of a delivery whose retries are used up or useless.
type Error struct {
	Attempts    int // deliveries to the handler, the first one included
	Disposition deadletter.Disposition
	Err         error // of the last attempt
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s after %d attempts: %v", e.Disposition, e.Attempts, e.Err)
}

// Unwrap returns the error of the last attempt.
func (e *Error) Unwrap() error { return e.Err }
