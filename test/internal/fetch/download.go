package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// attempts is how often a download is begun; retryPause is the pause before the
// second attempt, which doubles.
const attempts = 3

// Limits of a download, variables for the tests.
var (
	stallLimit    = 30 * time.Second // without a byte
	retryPause    = time.Second
	progressEvery = 3 * time.Second
)

// statusError is an answer other than 200.
type statusError struct{ status string }

func (e statusError) Error() string { return "the server answers " + e.status }

// download copies the content of a URL to a file. What may pass by itself, such as
// a lost connection, is tried again; a clear refusal is not.
func download(ctx context.Context, client *http.Client, from *url.URL, to string, shown *progress) error {
	pause := retryPause
	for attempt := 1; ; attempt++ {
		err := downloadOnce(ctx, client, from, to, shown)
		var refused statusError
		if err == nil || errors.As(err, &refused) || attempt == attempts || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

func downloadOnce(ctx context.Context, client *http.Client, from *url.URL, to string, shown *progress) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallLimit, func() { cancel(fmt.Errorf("nothing arrived for %s", stallLimit)) })
	defer stalled.Stop()
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			return e.Err // the caller names the URL, without its password
		}
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return statusError{answer.Status}
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	shown.expect(answer.ContentLength)
	body := readFunc(func(b []byte) (int, error) {
		n, err := answer.Body.Read(b)
		stalled.Reset(stallLimit)
		shown.add(n)
		return n, err
	})
	_, err = io.Copy(out, body)
	return errors.Join(err, out.Close())
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// progress prints every few seconds how much has arrived.
type progress struct {
	arrived, expected atomic.Int64
	done              chan struct{}
}

func startProgress() *progress {
	p := &progress{done: make(chan struct{})}
	go func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-tick.C:
				Progress("%.1f of %.1f MB", megabytes(&p.arrived), max(megabytes(&p.expected), megabytes(&p.arrived)))
			}
		}
	}()
	return p
}

func megabytes(n *atomic.Int64) float64 { return float64(n.Load()) / 1e6 }

func (p *progress) expect(bytes int64) { p.expected.Add(max(bytes, 0)) }
func (p *progress) add(bytes int)      { p.arrived.Add(int64(bytes)) }
func (p *progress) stop()              { close(p.done) }
