package app

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// NewID draws a UUID of version 7 (RFC 9562): it begins with the time in
// milliseconds, so ids of one clock sort roughly by age.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	ms := time.Now().UnixMilli()
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	return formatUUID(b, 7)
}

// IDFor derives the UUID, of version 8, of the notification that was requested
// with an idempotency key: the same key always names the same notification.
func IDFor(idempotencyKey string) string {
	sum := sha256.Sum256([]byte("notification idempotency key\x00" + idempotencyKey))
	return formatUUID([16]byte(sum[:16]), 8)
}

func formatUUID(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
