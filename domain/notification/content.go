package notification

import (
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/millrace-go/millrace/domain"
)

// ID is a UUID in its canonical lower-case text form.
type ID string

// ParseID returns the id that s spells, in canonical form. Anything that is not
// a UUID of 36 characters gives a *domain.ValidationError for the field "id".
func ParseID(s string) (ID, error) {
	var v domain.Validation
	v.Check(ID(strings.ToLower(s)).valid(), "id", "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")
	if err := v.Err(); err != nil {
		return "", err
	}
	return ID(strings.ToLower(s)), nil
}

func (id ID) valid() bool {
	s := string(id)
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || s != strings.ToLower(s) {
		return false
	}
	_, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	return err == nil
}

// Channel is the way a notification takes.
type Channel string

// The channels that the gateway serves.
const (
	Email Channel = "email"
	SMS   Channel = "sms"
	Push  Channel = "push"
)

// Limits of the fields, in bytes.
const (
	MaxRecipient = 256
	MaxSubject   = 256
	MaxBody      = 64 << 10
	MaxReason    = 1024
)

// Content is what is to be sent, and to whom.
type Content struct {
	Recipient string // id of the recipient: decides the order of events
	Channel   Channel
	Subject   string
	Body      string
}

func validateRequest(id ID, c Content) error {
	var v domain.Validation
	v.Check(id.valid(), "id", "must be a UUID in lower case")
	checkText(&v, "recipient", c.Recipient, MaxRecipient)
	v.Check(c.Channel == Email || c.Channel == SMS || c.Channel == Push, "channel", "must be email, sms or push")
	checkText(&v, "subject", c.Subject, MaxSubject)
	checkText(&v, "body", c.Body, MaxBody)
	return v.Err()
}

func checkText(v *domain.Validation, field, s string, limit int) {
	ok := strings.TrimSpace(s) != "" && len(s) <= limit && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
	v.Check(ok, field, "must be 1 to "+strconv.Itoa(limit)+" bytes of UTF-8 text that is not blank and has no NUL")
}
