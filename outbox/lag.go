package outbox

import "time"

// Lag is how far a relay is behind.
type Lag struct {
	Messages int64         `json:"messages"` // committed and not yet acknowledged
	Age      time.Duration `json:"age_ns"`   // of the oldest of them; 0 if none
	Parked   int64         `json:"parked"`
}
