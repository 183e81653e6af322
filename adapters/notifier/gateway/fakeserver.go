package gateway

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/millrace-go/millrace/domain/notification"
)

// Faults is what a FakeServer does wrong. The zero value does nothing wrong.
type Faults struct {
	// Latency is how long each answer takes.
	Latency time.Duration
	// Down cuts every request off without an answer and without delivering.
	Down bool
	// ErrorRate is the share of requests, 0 to 1, that are answered 500 and not
	// delivered.
	ErrorRate float64
	// LostAnswers is the share of requests, 0 to 1, that are delivered and then cut
	// off, so that the sender cannot know.
	LostAnswers float64
	// Remember makes the answer 500 of ErrorRate that of its key forever, as some
	// gateways do.
	Remember bool
	// Poison is what becomes of the requests for some recipients.
	Poison map[string]Poison
	// Seed makes the shares repeatable. 0 draws one.
	Seed uint64
}

// Poison is what becomes of the requests for one recipient.
type Poison struct {
	// Status is the answer; 0 keeps them waiting until they give up.
	Status int
	// RetryAfter, if set, goes with the answer.
	RetryAfter time.Duration
}

// FakeRequest is one request that a FakeServer got.
type FakeRequest struct {
	Key            string
	NotificationID notification.ID
	Attempt        int
	Recipient      string
	Traceparent    string
	// Status is the answer; 0 if there was none.
	Status int
	// Delivered says that this request made a delivery: the first of its key that
	// came through.
	Delivered bool
}

// FakeServer is a gateway for tests and demonstrations: an http.Handler that
// delivers each idempotency key once, fails as it is told to, and counts what it
// really delivered, so that a second delivery under another key is seen. It is
// safe for concurrent use.
type FakeServer struct {
	mu       sync.Mutex
	faults   Faults
	rng      *rand.Rand
	keys     map[string]outcome
	requests []FakeRequest
	changed  chan struct{} // closed when faults change: those that wait look again
}

// outcome is what is known of a key.
type outcome struct {
	content body
	status  int // 0 while a request is under way
}

// NewFakeServer returns a gateway that does nothing wrong yet.
func NewFakeServer() *FakeServer {
	f := &FakeServer{keys: map[string]outcome{}, changed: make(chan struct{})}
	f.Fail(Faults{})
	return f
}

// Fail sets what it does wrong from now on. Requests that wait are looked at again.
func (f *FakeServer) Fail(faults Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if faults.Seed == 0 {
		faults.Seed = rand.Uint64()
	}
	f.faults, f.rng = faults, rand.New(rand.NewPCG(faults.Seed, 0)) //nolint:gosec // it decides nothing but when to fail
	close(f.changed)
	f.changed = make(chan struct{})
}

// Requests returns every request so far that had the form of one.
func (f *FakeServer) Requests() []FakeRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// Deliveries counts what was delivered, by notification: more than once means
// that somebody got it twice.
func (f *FakeServer) Deliveries() map[notification.ID]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := map[notification.ID]int{}
	for _, r := range f.requests {
		if r.Delivered {
			count[r.NotificationID]++
		}
	}
	return count
}

// ServeHTTP implements http.Handler.
func (f *FakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var content body
	key := r.Header.Get(headerKey)
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&content)
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/v1/deliveries":
		fakeAnswer(w, http.StatusNotFound, "there is only POST /v1/deliveries")
		return
	case err != nil:
		fakeAnswer(w, http.StatusBadRequest, "the body is not a delivery")
		return
	case key == "":
		fakeAnswer(w, http.StatusBadRequest, headerKey+" is missing")
		return
	}
	req := FakeRequest{
		Key: key, NotificationID: content.NotificationID, Attempt: content.Attempt, Recipient: content.Recipient,
		Traceparent: r.Header.Get(headerTraceparent),
	}
	content.Attempt = 0 // it differs between requests that are the same
	v := f.decide(r, key, content)
	req.Status, req.Delivered = v.status, v.delivered
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	v.write(w)
}
