package doctor

import (
	"errors"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// Unreachable says of the error of a first contact with Postgres what the server
// did and what to do about it.
func Unreachable(err error) (what, fix string) {
	var refusal *pq.Error
	switch {
	case errors.Is(err, pq.ErrSSLNotSupported):
		return "refuses", "add sslmode=disable to --postgres, as in postgres://user@host:5432/db?sslmode=disable, or switch TLS on in the server"
	case !errors.As(err, &refusal):
		return "does not answer", "start it, or correct --postgres"
	}
	switch refusal.Code {
	case pqerror.InvalidCatalogName:
		fix = "create the database, or correct its name in --postgres"
	case pqerror.InvalidPassword, pqerror.InvalidAuthorizationSpecification:
		fix = "correct user and password in --postgres, or let the role in (pg_hba.conf)"
	case pqerror.TooManyConnections:
		fix = "close some connections, or raise max_connections"
	case pqerror.CannotConnectNow:
		fix = "wait until it has started"
	default:
		fix = "correct --postgres"
	}
	return "refuses", fix
}
