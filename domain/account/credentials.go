package account

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/millrace-go/millrace/domain"
)

// ErrWrongCredentials means that email and password do not belong together.
// Whether there is such an account, the caller is not told.
var ErrWrongCredentials = errors.New("email or password is wrong")

// Limits of the fields, in bytes.
const (
	MaxEmail    = 254
	MinPassword = 8
	MaxPassword = 128
)

// NormalEmail is the one form under which an email is stored and looked up:
// without space around it, in lower case.
func NormalEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// IsEmail reports that s, in its normal form, has the form of an address.
func IsEmail(s string) bool {
	name, host, _ := strings.Cut(s, "@")
	odd := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '@' }
	return name != "" && host != "" && len(s) <= MaxEmail && utf8.ValidString(s) && !strings.ContainsFunc(name+host, odd)
}

func checkEmail(v *domain.Validation, email string) {
	v.Check(IsEmail(email), "email", "must be an address such as ada@example.org, at most 254 bytes")
}

// ValidateCredentials refuses an email that is not one and a password that is too
// short, or too long to hash at a fair price, with a *domain.ValidationError.
// Anything may be in a password.
func ValidateCredentials(email, password string) error {
	var v domain.Validation
	checkEmail(&v, NormalEmail(email))
	v.Check(len(password) >= MinPassword && len(password) <= MaxPassword, "password", "must be 8 to 128 bytes")
	return v.Err()
}
