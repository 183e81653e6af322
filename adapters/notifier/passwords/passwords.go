// Package passwords hashes passwords with argon2id, with a bound on how many are
// hashed at once: each costs megabytes, and logins must not exhaust the memory.
//
// Reference code: no compatibility promise.
package passwords

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/crypto/argon2"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// Config configures a Hasher. The zero value is usable: OWASP's choice of 19 MiB,
// 2 passes and 1 lane.
type Config struct {
	// Memory of one hash in KiB, 8 to 1048576, at least 8 for each lane. Default 19456.
	Memory uint32
	// Passes over the memory, at most 64. Default 2.
	Passes uint32
	// Lanes that one hash is computed in, at most 64. Default 1.
	Lanes uint8
	// AtOnce is how many are hashed at the same time; with Memory it bounds what
	// they need. Default GOMAXPROCS.
	AtOnce int
	// Waiting is how many may wait for their turn; one more is app.ErrOverloaded.
	// -1 lets nobody wait. Default 64.
	Waiting int
}

// Hasher implements app.Passwords. It is safe for concurrent use.
type Hasher struct {
	cost    cost
	turns   chan struct{}
	waiting atomic.Int64
	most    int64
}

var _ app.Passwords = (*Hasher)(nil)

// New returns a hasher. Hashes made with other parameters stay valid.
func New(cfg Config) (*Hasher, error) {
	def(&cfg.Memory, 19456)
	def(&cfg.Passes, 2)
	def(&cfg.Lanes, 1)
	def(&cfg.AtOnce, runtime.GOMAXPROCS(0))
	def(&cfg.Waiting, 64)
	c := cost{cfg.Memory, cfg.Passes, cfg.Lanes}
	var v domain.Validation
	v.Check(c.memory >= 8*uint32(max(c.lanes, 1)) && c.memory <= maxMemory, "Memory", fmt.Sprintf("must be 8 (for each lane) to %d KiB", maxMemory))
	v.Check(c.passes <= maxPasses, "Passes", fmt.Sprintf("must be 1 to %d", maxPasses))
	v.Check(c.lanes <= maxLanes, "Lanes", fmt.Sprintf("must be 1 to %d", maxLanes))
	v.Check(cfg.AtOnce > 0, "AtOnce", "must be positive")
	v.Check(cfg.Waiting >= -1, "Waiting", "must be -1 for none, 0 for the default, or positive")
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("passwords: %w", err)
	}
	return &Hasher{cost: c, turns: make(chan struct{}, cfg.AtOnce), most: int64(max(cfg.Waiting, 0))}, nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Hash implements app.Passwords.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails: the runtime ends the process instead
	hash, err := h.derive(ctx, h.cost, salt, password, hashBytes)
	if err != nil {
		return "", err
	}
	return format(h.cost, salt, hash), nil
}

// Verify implements app.Passwords. A hash that cannot be read is an error.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (bool, error) {
	if hash == "" { // nobody's: the same work for nothing
		_, err := h.derive(ctx, h.cost, make([]byte, saltBytes), password, hashBytes)
		return false, err
	}
	c, salt, want, err := parse(hash)
	if err != nil {
		return false, err
	}
	have, err := h.derive(ctx, c, salt, password, len(want))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(have, want) == 1, nil
}

// derive waits for its turn, if not too many wait already, and computes a hash.
func (h *Hasher) derive(ctx context.Context, c cost, salt []byte, password string, size int) ([]byte, error) {
	select {
	case h.turns <- struct{}{}:
	default:
		if err := h.wait(ctx); err != nil {
			return nil, fmt.Errorf("hash password: %w", err)
		}
	}
	defer func() { <-h.turns }()
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.lanes, uint32(size)), nil //nolint:gosec // at most maxHash
}

func (h *Hasher) wait(ctx context.Context) error {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > h.most {
		return app.ErrOverloaded
	}
	select {
	case h.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
