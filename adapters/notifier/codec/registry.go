package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/millrace-go/millrace/domain"
)

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
