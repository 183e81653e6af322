package domain

import (
	"encoding/hex"
	"strings"
)

// IsUUID reports that s is a UUID in its canonical form: 36 characters, hex
// digits in lower case.
func IsUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || s != strings.ToLower(s) {
		return false
	}
	_, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	return err == nil
}
