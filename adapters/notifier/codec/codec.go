// Package codec translates between the domain's events and the messages that the
// outbox stores and Kafka carries. It alone knows wire names, schema versions,
// topics and JSON forms.
//
// A payload that was once published is published forever: a change of form is a
// new schema version with an upcaster from the one before, see registry.go.
//
// Reference code: no compatibility promise.
package codec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/outbox"
)

// TopicNotification carries the events of notifications, keyed by recipient.
const TopicNotification = "notification.v1"

// Config configures a Codec. The zero value is usable.
type Config struct {
	// Traceparent returns the W3C traceparent of the work that ctx belongs to, or
	// "". It wins over the one in the event's envelope. Default: the envelope's.
	Traceparent func(ctx context.Context) string
	// Topic renames topics, for installations that share a broker. Default: the
	// names stay.
	Topic func(name string) string
}

// Codec is safe for concurrent use.
type Codec struct {
	cfg     Config
	schemas registry
}

// New returns a codec of all events of the service.
func New(cfg Config) *Codec {
	if cfg.Traceparent == nil {
		cfg.Traceparent = func(context.Context) string { return "" }
	}
	if cfg.Topic == nil {
		cfg.Topic = func(name string) string { return name }
	}
	schemas := notificationEvents()
	accountEvents(schemas)
	return &Codec{cfg: cfg, schemas: schemas}
}

// Encode makes the message of an event, in the newest schema. An event that has
// no wire form is an *UnknownEventError.
func (c *Codec) Encode(ctx context.Context, r domain.Recorded) (outbox.Message, error) {
	s, ok := c.schemas.of(r.Event)
	if !ok {
		return outbox.Message{}, fmt.Errorf("encode: %w", &UnknownEventError{Type: fmt.Sprintf("%T", r.Event)})
	}
	id, err := uuid.Parse(r.ID)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("encode %s: event id: %w", s.name, err)
	}
	key, payload, err := s.encode(r)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("encode %s: %w", s.name, err)
	}
	return outbox.Message{
		ID: id, Topic: c.cfg.Topic(s.topic), Key: key, Type: s.name,
		AggregateType: r.AggregateType, AggregateID: r.AggregateID, AggregateVersion: r.AggregateVersion,
		Headers: c.headers(ctx, r, s.version), Payload: payload,
	}, nil
}

func (c *Codec) headers(ctx context.Context, r domain.Recorded, version int) map[string]string {
	h := map[string]string{
		outbox.HeaderSchemaVersion: strconv.Itoa(version),
		outbox.HeaderOccurredAt:    r.OccurredAt.UTC().Format(time.RFC3339Nano),
	}
	parent := c.cfg.Traceparent(ctx)
	if parent == "" {
		parent = r.Trace.Parent
	}
	for name, value := range map[string]string{
		outbox.HeaderTraceparent:   parent,
		outbox.HeaderCorrelationID: r.Trace.CorrelationID,
		outbox.HeaderCausationID:   r.Trace.CausationID,
	} {
		if value != "" {
			h[name] = value
		}
	}
	return h
}

// Decode makes an event of a record's headers and value. Older schemas are
// brought up to the newest. It returns an *UnknownEventError for a type or
// version that it has no schema of, and a *PayloadError for headers or a payload
// that do not fit the schema. Neither can be healed by trying again.
func (c *Codec) Decode(headers map[string]string, payload []byte) (domain.Recorded, error) {
	name, text := headers[outbox.HeaderEventType], headers[outbox.HeaderSchemaVersion]
	s, ok := c.schemas.named(name)
	version, err := strconv.Atoi(text)
	if !ok || err != nil || version < 1 || version > s.version {
		return domain.Recorded{}, &UnknownEventError{Type: name, Version: text}
	}
	r, err := envelope(headers)
	if err == nil {
		r.Event, err = s.decode(r, version, payload)
	}
	if err != nil {
		return domain.Recorded{}, &PayloadError{Type: name, Version: version, Err: err}
	}
	return r, nil
}

func envelope(h map[string]string) (domain.Recorded, error) {
	var errs []error
	id, err := uuid.Parse(h[outbox.HeaderEventID])
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", outbox.HeaderEventID, err))
	}
	version, err := strconv.ParseInt(h[outbox.HeaderAggregateVersion], 10, 64)
	if err != nil || version < 1 {
		errs = append(errs, fmt.Errorf("%s: %q is not a version", outbox.HeaderAggregateVersion, h[outbox.HeaderAggregateVersion]))
	}
	at, err := time.Parse(time.RFC3339Nano, h[outbox.HeaderOccurredAt])
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", outbox.HeaderOccurredAt, err))
	}
	if strings.TrimSpace(h[outbox.HeaderAggregateID]) == "" {
		errs = append(errs, fmt.Errorf("%s: is missing", outbox.HeaderAggregateID))
	}
	return domain.Recorded{
		ID: id.String(), AggregateType: h[outbox.HeaderAggregateType], AggregateID: h[outbox.HeaderAggregateID],
		AggregateVersion: version, OccurredAt: domain.Time(at),
		Trace: domain.Trace{
			Parent:        h[outbox.HeaderTraceparent],
			CorrelationID: h[outbox.HeaderCorrelationID],
			CausationID:   h[outbox.HeaderCausationID],
		},
	}, errors.Join(errs...)
}

// upcaster turns the payload of one schema version into that of the next.
type upcaster func(payload json.RawMessage) (json.RawMessage, error)

// schema is the wire form of one kind of event.
type schema struct {
	name    string // wire name, never reused
	topic   string
	version int // the newest; versions start at 1
	// upcast holds, for every version but the newest, the step to the next one.
	upcast map[int]upcaster
	// encode returns the record key and the payload in the newest version.
	encode func(domain.Recorded) (key string, payload []byte, err error)
	// parse makes the event of a payload in the newest version.
	parse func(r domain.Recorded, payload []byte) (domain.Event, error)
}

func (s *schema) decode(r domain.Recorded, version int, payload []byte) (domain.Event, error) {
	for v := version; v < s.version; v++ {
		step, ok := s.upcast[v]
		if !ok {
			return nil, fmt.Errorf("no way from schema version %d to %d", v, v+1)
		}
		var err error
		if payload, err = step(payload); err != nil {
			return nil, fmt.Errorf("upcast from schema version %d: %w", v, err)
		}
	}
	return s.parse(r, payload)
}

// registry knows each schema by its wire name and by the Go type of its event.
type registry struct {
	byName map[string]*schema
	byType map[reflect.Type]*schema
}

func (r registry) named(name string) (*schema, bool) {
	s, ok := r.byName[name]
	return s, ok
}

func (r registry) of(e domain.Event) (*schema, bool) {
	s, ok := r.byType[reflect.TypeOf(e)]
	return s, ok
}

func (r registry) add(e domain.Event, s *schema) {
	r.byName[s.name] = s
	r.byType[reflect.TypeOf(e)] = s
}

// form describes the JSON payload P of the event E: to and from are each other's
// inverse, and check says what a payload lacks.
type form[E domain.Event, P any] struct {
	key   func(domain.Recorded, E) string
	to    func(domain.Recorded, E) P
	from  func(domain.Recorded, P) E
	check func(domain.Recorded, P) error
}

func register[E domain.Event, P any](r registry, s schema, f form[E, P]) {
	s.encode = func(rec domain.Recorded) (string, []byte, error) {
		e, ok := rec.Event.(E)
		if !ok {
			return "", nil, fmt.Errorf("is a %T", rec.Event)
		}
		payload, err := json.Marshal(f.to(rec, e))
		return f.key(rec, e), payload, err
	}
	s.parse = func(rec domain.Recorded, payload []byte) (domain.Event, error) {
		if len(payload) == 0 {
			return nil, errors.New("payload is empty")
		}
		var p P
		if err := json.Unmarshal(payload, &p); err != nil {
			return nil, err
		}
		if err := f.check(rec, p); err != nil {
			return nil, err
		}
		return f.from(rec, p), nil
	}
	var zero E
	r.add(zero, &s)
}
