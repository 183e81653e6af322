package passwords

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// cost is argon2id's parameters.
type cost struct {
	memory uint32 // KiB
	passes uint32
	lanes  uint8
}

// Sizes in bytes, and the most that a stored hash may ask for.
const (
	saltBytes = 16
	hashBytes = 32

	maxMemory = 1 << 20
	maxPasses = 64
	maxLanes  = 64
	maxHash   = 64
)

// errHash means that a stored hash cannot be read. It does not show the hash.
var errHash = errors.New("stored password hash cannot be read")

var hashText = base64.RawStdEncoding.Strict()

// format writes the PHC string form, which every argon2 library reads:
// $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>.
func format(c cost, salt, hash []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.lanes,
		hashText.EncodeToString(salt), hashText.EncodeToString(hash))
}

func parse(s string) (c cost, salt, hash []byte, err error) {
	refuse := func(why string) (cost, []byte, []byte, error) {
		return cost{}, nil, nil, fmt.Errorf("%w: %s", errHash, why)
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return refuse("is not argon2id of the version known")
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.lanes); err != nil || n != 3 {
		return refuse("parameters")
	}
	if c.passes < 1 || c.passes > maxPasses || c.lanes < 1 || c.lanes > maxLanes ||
		c.memory < 8*uint32(c.lanes) || c.memory > maxMemory {
		return refuse("parameters are out of bounds")
	}
	salt, saltErr := hashText.DecodeString(parts[4])
	hash, hashErr := hashText.DecodeString(parts[5])
	if saltErr != nil || hashErr != nil || len(salt) < 8 || len(hash) < 16 || len(hash) > maxHash {
		return refuse("salt or hash")
	}
	return c, salt, hash, nil
}
