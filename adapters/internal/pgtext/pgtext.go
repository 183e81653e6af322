// Package pgtext makes text fit for columns of Postgres.
package pgtext

import "strings"

// Storable returns text as a text column takes it: valid UTF-8 without NUL bytes.
// What does not fit is replaced by U+FFFD.
func Storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Cut returns the first maxBytes bytes of text as Storable does. The result may be
// a little longer than maxBytes: a rune that was cut in two is replaced, too.
func Cut(text string, maxBytes int) string {
	return Storable(text[:min(len(text), maxBytes)])
}
