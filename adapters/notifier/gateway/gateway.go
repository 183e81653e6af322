// Package gateway reaches the external service that delivers notifications, over
// HTTP: [Gateway]. [Fake] and [FakeServer] stand in for it.
//
// A delivery is POST <URL>/v1/deliveries with a JSON body and the header
// Idempotency-Key. What the answer means:
//
//	2xx            delivered
//	425, 429       not now: app.ErrNotNow
//	401, 407       our credentials are wrong, not the content: app.ErrUnavailable
//	408, 409       unknown; 409 is another request of the same key under way
//	other 4xx      never: app.ErrRejected
//	3xx, 5xx       unknown
//	none           unknown; app.ErrUnavailable if no connection could be made
//
// Retry-After is honoured. A failure with the header "Idempotent-Replayed: true"
// is one that the gateway remembers: app.ErrKeySpent.
//
// Reference code: no compatibility promise.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// Config configures a Gateway. Only URL is required.
type Config struct {
	// URL is where the gateway is, such as https://gateway.example.org. The path of
	// the interface is appended to its own.
	URL string
	// Token, if set, is sent as bearer token. Default: none.
	Token string
	// Timeout bounds one request, from the moment it may be sent. Default 5 s.
	Timeout time.Duration
	// Concurrency is how many requests are under way at most; others wait.
	// Default 64.
	Concurrency int
	// BreakAfter is how many recipients in a row, without a success between, must
	// fail for the breaker to open: a single recipient that always fails does not
	// open it. -1 is never. Default 5.
	BreakAfter int
	// BreakFor is how long the breaker then stays open, before one request is let
	// through to try. Default 10 s.
	BreakFor time.Duration
	// Traceparent returns the W3C traceparent for a request, or "". Default: none is
	// sent.
	Traceparent func(ctx context.Context) string
	// BreakerChanged is told when the breaker opens ("open"), tries ("half-open") and
	// closes ("closed"). It must be quick. Default: nobody.
	BreakerChanged func(from, to string)
}

// Gateway sends over HTTP. It is safe for concurrent use.
type Gateway struct {
	cfg     Config
	url     string
	client  *http.Client
	slots   chan struct{}
	breaker *breaker
}

var _ app.Gateway = (*Gateway)(nil)

// New returns a gateway, or an error that names every wrong field. It connects to
// nothing.
func New(cfg Config) (*Gateway, error) {
	var v domain.Validation
	u, err := url.Parse(cfg.URL)
	v.Check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "URL", "must be an address such as https://gateway.example.org")
	v.Check(cfg.Timeout >= 0, "Timeout", "must not be negative")
	v.Check(cfg.Concurrency >= 0, "Concurrency", "must not be negative")
	v.Check(cfg.BreakAfter >= -1, "BreakAfter", "must be -1 for never, 0 for the default, or positive")
	v.Check(cfg.BreakFor >= 0, "BreakFor", "must not be negative")
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	cfg = cfg.withDefaults()
	return &Gateway{
		cfg: cfg, url: u.JoinPath("v1", "deliveries").String(),
		client: &http.Client{Transport: transport(cfg), CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a delivery goes where it was told to, or nowhere
		}},
		slots:   make(chan struct{}, cfg.Concurrency),
		breaker: newBreaker(cfg),
	}, nil
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Concurrency == 0 {
		c.Concurrency = 64
	}
	if c.BreakAfter == 0 {
		c.BreakAfter = 5
	}
	if c.BreakFor == 0 {
		c.BreakFor = 10 * time.Second
	}
	if c.Traceparent == nil {
		c.Traceparent = func(context.Context) string { return "" }
	}
	if c.BreakerChanged == nil {
		c.BreakerChanged = func(string, string) {}
	}
	return c
}

func transport(cfg Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: min(cfg.Timeout, 2*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: cfg.Timeout,
		MaxIdleConns:        cfg.Concurrency,
		MaxIdleConnsPerHost: cfg.Concurrency,
		MaxConnsPerHost:     cfg.Concurrency,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}
}

// Close drops the idle connections.
func (g *Gateway) Close() error {
	g.client.CloseIdleConnections()
	return nil
}

// Send implements app.Gateway. It waits for its turn as long as ctx lives, and
// then for the answer as long as Timeout allows. Errors of an answer are *Error.
func (g *Gateway) Send(ctx context.Context, d app.Delivery) error {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %d requests are under way: %w", app.ErrUnavailable, g.cfg.Concurrency, ctx.Err())
	}
	return g.breaker.do(ctx, d.Recipient, func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, g.cfg.Timeout, fmt.Errorf("%w: after %s", errNoAnswer, g.cfg.Timeout))
		defer cancel()
		return g.post(ctx, d)
	})
}

// errNoAnswer means that the gateway did not answer in time.
var errNoAnswer = errors.New("no answer")
