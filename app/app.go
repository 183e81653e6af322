// Package app holds the use cases of the reference service, one file each, and
// the ports through which they reach the outside. It decides the order of steps;
// whether a business act is allowed is decided in package domain.
//
// Reference code: no compatibility promise.
package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
)

// Config configures an App. The zero value is usable.
type Config struct {
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID draws the ids of notifications and events: UUIDs in text form.
	// Default NewID.
	NewID func() string
	// Retry says when a notification that failed is tried again. Default: the
	// default of the policy.
	Retry notification.Policy
	// Tracer carries the trace of a failed notification over to its next attempt.
	// Default: traces end there.
	Tracer Tracer
	// ViewFailed is told when the view could not be read or filled; the use case
	// answered from the database all the same. Default: nobody.
	ViewFailed func(ctx context.Context, err error)
}

// App is the use cases over their ports. It is safe for concurrent use.
type App struct {
	uow    UnitOfWork
	reader Reader
	views  Views
	keep   keeper
	cfg    Config
}

// New returns the use cases over the given ports, all of which are required.
func New(uow UnitOfWork, reader Reader, views Views, cfg Config) (*App, error) {
	var errs []error
	if uow == nil {
		errs = append(errs, errors.New("uow: is nil"))
	}
	if reader == nil {
		errs = append(errs, errors.New("reader: is nil"))
	}
	if views == nil {
		errs = append(errs, errors.New("views: is nil"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("app: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = NewID
	}
	if cfg.ViewFailed == nil {
		cfg.ViewFailed = func(context.Context, error) {}
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noTracer{}
	}
	return &App{uow: uow, reader: reader, views: views, keep: keeper{cfg.NewID, cfg.Retry, cfg.Tracer}, cfg: cfg}, nil
}

// change loads a notification, lets act decide, and stores the outcome with its
// events. When act refuses, nothing is written. An id that cannot be one is
// domain.ErrNotFound, like one that nothing has.
func (a *App) change(ctx context.Context, id string, act func(*notification.Notification) error) error {
	parsed, err := notification.ParseID(id)
	if err != nil {
		return domain.ErrNotFound
	}
	return a.uow.Do(ctx, func(ctx context.Context, tx Tx) error {
		n, err := tx.Notifications().Get(ctx, parsed)
		if err != nil {
			return err
		}
		return a.keep.apply(ctx, tx, n, act)
	})
}
