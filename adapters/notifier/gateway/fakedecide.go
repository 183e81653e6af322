package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// verdict is the answer to one request.
type verdict struct {
	status     int // 0 cuts the connection
	delivered  bool
	remembered bool // the key is answered like this forever
	replayed   bool
	retryAfter time.Duration
	reason     string
}

// decide takes its time and then decides. While it does, its key is under way: a
// second request of it gets 409.
func (f *FakeServer) decide(r *http.Request, key string, content body) verdict {
	known, refused := f.begin(key, content)
	if refused != nil {
		return *refused
	}
	answers := f.wait(r, content.Recipient)
	f.mu.Lock()
	defer f.mu.Unlock()
	answers = answers && !f.faults.Down
	if known != 0 {
		if !answers {
			return verdict{}
		}
		return verdict{status: known, replayed: true, reason: "as before"}
	}
	v := verdict{}
	if answers {
		v = f.fresh(content.Recipient)
	}
	switch {
	case v.delivered:
		f.keys[key] = outcome{content: content, status: http.StatusOK}
	case v.remembered:
		f.keys[key] = outcome{content: content, status: v.status}
	default:
		delete(f.keys, key)
	}
	return v
}

// begin returns the status that a key is answered with forever, 0 for a new one,
// which is then under way; or why the request cannot be looked at.
func (f *FakeServer) begin(key string, content body) (known int, refused *verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have, seen := f.keys[key]
	switch {
	case !seen:
		f.keys[key] = outcome{content: content}
	case have.content != content:
		return 0, &verdict{status: http.StatusUnprocessableEntity, reason: "the key was used for something else"}
	case have.status == 0:
		return 0, &verdict{status: http.StatusConflict, reason: "a request with this key is under way"}
	}
	return have.status, nil
}

// fresh decides about a key that is new. The caller holds mu.
func (f *FakeServer) fresh(recipient string) verdict {
	poison, poisoned := f.faults.Poison[recipient]
	switch {
	case poisoned:
		return verdict{status: poison.Status, retryAfter: poison.RetryAfter, reason: "poisoned recipient"}
	case f.rng.Float64() < f.faults.ErrorRate:
		return verdict{status: http.StatusInternalServerError, remembered: f.faults.Remember, reason: "planted error"}
	case f.rng.Float64() < f.faults.LostAnswers:
		return verdict{delivered: true}
	}
	return verdict{status: http.StatusOK, delivered: true}
}

// wait lets the latency pass, or forever for a recipient that is to wait, and
// reports false if the request was given up meanwhile. Changed faults are looked
// at again.
func (f *FakeServer) wait(r *http.Request, recipient string) bool {
	start := time.Now()
	for {
		f.mu.Lock()
		left, changed := f.faults.Latency-time.Since(start), f.changed
		poison, poisoned := f.faults.Poison[recipient]
		f.mu.Unlock()
		if poisoned && poison.Status == 0 {
			left = time.Hour
		} else if left <= 0 {
			return true
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-r.Context().Done():
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

func (v verdict) write(w http.ResponseWriter) {
	if v.status == 0 {
		if h, ok := w.(http.Hijacker); ok {
			if conn, _, err := h.Hijack(); err == nil {
				_ = conn.Close() // which is the answer
			}
		}
		return
	}
	if v.replayed {
		w.Header().Set(headerReplayed, "true")
	}
	if v.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(v.retryAfter.Round(time.Second)/time.Second)))
	}
	fakeAnswer(w, v.status, v.reason)
}

func fakeAnswer(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if status >= http.StatusBadRequest {
		_ = json.NewEncoder(w).Encode(map[string]string{"error": reason}) // the sender is gone: nobody to tell
		return
	}
	_, _ = fmt.Fprintln(w, `{"accepted":true}`)
}
