package audit

import (
	"database/sql"
	"time"
)

// NewWithLease is New with a shorter lease.
func NewWithLease(db *sql.DB, lease time.Duration) *Log { return newLog(db, lease) }
