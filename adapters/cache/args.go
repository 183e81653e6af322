package cache

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
)

// Arguments are written in a form of their own, not as JSON, which leaves fields
// out and does not tell all values apart: two arguments must never share a key.

var (
	timeType = reflect.TypeFor[time.Time]()
	textType = reflect.TypeFor[encoding.TextMarshaler]()
)

// checkArgs tells whether values of t can be written.
func checkArgs(t reflect.Type) error { return checkType(t, "", nil) }

func checkType(t reflect.Type, path string, above []reflect.Type) error {
	if t == timeType || t.Implements(textType) && !promotesText(t) {
		return nil
	}
	if slices.Contains(above, t) {
		return fmt.Errorf("%s%s contains itself", path, t)
	}
	above = append(above, t)
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return nil
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return checkType(t.Elem(), path, above)
	case reflect.Map:
		return errors.Join(checkType(t.Key(), path, above), checkType(t.Elem(), path, above))
	case reflect.Struct:
		var errs []error
		for i := range t.NumField() {
			f := t.Field(i)
			if promotesText(t) && f.Anonymous {
				errs = append(errs, fmt.Errorf("%s%s.%s is embedded and would speak for the whole", path, t, f.Name))
				continue
			}
			if !f.IsExported() {
				errs = append(errs, fmt.Errorf("%s%s.%s is not exported", path, t, f.Name))
				continue
			}
			errs = append(errs, checkType(f.Type, path+t.String()+"."+f.Name+": ", above))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("%s%s cannot be a part of a key", path, t)
}

// promotesText reports whether t may owe its MarshalText to an embedded field, so
// that its other fields would be left out.
func promotesText(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && (f.Type.Implements(textType) || reflect.PointerTo(f.Type).Implements(textType)) {
			return true
		}
	}
	return false
}

// argsDigest is the hex SHA-256 of the canonical form of args.
func argsDigest(args any) (string, error) {
	form, err := appendArg(make([]byte, 0, 128), reflect.ValueOf(args))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(form)
	return hex.EncodeToString(sum[:]), nil
}

// appendArg writes v. Its type is known from where it stands, so that lengths and
// marks for nil are enough to tell values apart.
func appendArg(b []byte, v reflect.Value) ([]byte, error) {
	switch t := v.Type(); {
	case t == timeType:
		return appendText(b, v.Interface().(time.Time).UTC().AppendFormat(nil, time.RFC3339Nano)), nil
	case t.Kind() == reflect.Pointer && v.IsNil():
		return append(b, 0), nil
	case t.Implements(textType):
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return appendText(append(b, 1), text), err
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	case reflect.String:
		return appendText(b, []byte(v.String())), nil
	case reflect.Float32, reflect.Float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v.Float())), nil
	case reflect.Pointer:
		return appendArg(append(b, 1), v.Elem())
	case reflect.Slice, reflect.Array:
		return appendList(b, v)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Struct:
		var err error
		for i := 0; i < v.NumField() && err == nil; i++ {
			b, err = appendArg(b, v.Field(i))
		}
		return b, err
	}
	if v.CanInt() {
		return binary.AppendVarint(b, v.Int()), nil
	}
	return binary.AppendUvarint(b, v.Uint()), nil
}

func appendText(b, text []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.Kind() == reflect.Slice && v.IsNil() {
		return append(b, 0), nil
	}
	b = binary.AppendUvarint(append(b, 1), uint64(v.Len()))
	for i := 0; i < v.Len() && err == nil; i++ {
		b, err = appendArg(b, v.Index(i))
	}
	return b, err
}

func appendMap(b []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(b, 0), nil
	}
	pairs := make([]string, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		pair, err := appendArg(nil, it.Key())
		if err == nil {
			pair, err = appendArg(pair, it.Value())
		}
		if err != nil {
			return b, err
		}
		pairs = append(pairs, string(pair))
	}
	slices.Sort(pairs)
	b = binary.AppendUvarint(append(b, 1), uint64(len(pairs)))
	for _, pair := range pairs {
		b = appendText(b, []byte(pair))
	}
	return b, nil
}
