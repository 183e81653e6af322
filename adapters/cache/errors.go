package cache

import "errors"

// The errors that callers branch on. Every other error of a Get is that of the
// load, or of the caller's context.
var (
	// ErrNotFound: there is no such thing. A load returns it to say so.
	ErrNotFound = errors.New("not found")
	// ErrRevoked: there was such a thing, and it was revoked.
	ErrRevoked = errors.New("revoked")
	// ErrOverloaded: the database had no capacity within the load in time. Answer 503
	// with Retry-After, never 404 or 401.
	ErrOverloaded = errors.New("database overloaded")
	// ErrUnavailable: Redis did not do what it was asked to. Writing calls return
	// it; a Get does only if its cache has no load to fall back to.
	ErrUnavailable = errors.New("redis unavailable")
	// ErrMiss: nothing is stored, and the cache has no load.
	ErrMiss = errors.New("cache miss")
	// ErrKey: an id is empty or longer than MaxID. Nothing was asked of anybody.
	ErrKey = errors.New("invalid id")
	// ErrVersion: a version is negative, or zero for something that exists.
	ErrVersion = errors.New("invalid version")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("cache closed")
)
