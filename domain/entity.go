package domain

import "time"

// Entity is what every stored thing has. The database sets all but the id, so
// that every writer, plain SQL included, agrees; what the application puts into
// these fields is ignored on writing.
type Entity[ID comparable] struct {
	ID ID
	// CreatedAt and UpdatedAt are the database's clock, UTC. They are for people:
	// only Version orders writes. Zero before the first write.
	CreatedAt time.Time
	UpdatedAt time.Time
	// Version starts at 1 and grows by one with every write of the row.
	Version int64
}
