package house_test

import (
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"
)

// waits names the functions that wait for something, and which argument bounds it.
var waits = map[string]int{"require.Eventually": 2, "require.EventuallyWithT": 2, "harness.Await": 1, "harness.Until": 1}

// judges names the functions that demand that their second argument is small.
var judges = map[string]bool{"require.Less": true, "require.LessOrEqual": true}

// boundsShort finds waits with less than a minute, and demands on how long
// something took. Files with a fake clock may: there it is exact.
func boundsShort(t tree) (found []finding) {
	for _, s := range t.sources {
		if !s.test || s.imported("testing/synctest") != "" {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := types.ExprString(call.Fun)
			if at, waiting := waits[name]; waiting && len(call.Args) > at && lessThanAMinute(call.Args[at]) {
				found = append(found, finding{s.at(call.Pos()), "bound", name + " waits " + strings.ReplaceAll(types.ExprString(call.Args[at]), " ", "") + " at most"})
			}
			if judges[name] && len(call.Args) > 1 && strings.HasPrefix(types.ExprString(call.Args[1]), "time.Since(") {
				found = append(found, finding{s.at(call.Pos()), "bound", "judges time.Since"})
			}
			return true
		})
	}
	return found
}

// lessThanAMinute recognizes time.Second, n * time.Second and the like below 60 s.
func lessThanAMinute(e ast.Expr) bool {
	n, unit := 1, e
	if product, ok := e.(*ast.BinaryExpr); ok && product.Op == token.MUL {
		factor, ok := product.X.(*ast.BasicLit)
		if !ok {
			return false
		}
		var err error
		if n, err = strconv.Atoi(factor.Value); err != nil {
			return false
		}
		unit = product.Y
	}
	switch types.ExprString(unit) {
	case "time.Second":
		return n < 60
	case "time.Millisecond":
		return n < 60_000
	}
	return false
}
