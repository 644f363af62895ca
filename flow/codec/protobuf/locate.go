package protobuf

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// located adds field and position to an error of the library, which has neither, by walking through the payload once more.
func located(data []byte, md protoreflect.MessageDescriptor, cause error) error {
	path, at, what := locate(data, md, "", 0, 0)
	switch {
	case what == "":
		return fmt.Errorf("decode %s: %w", md.FullName(), cause)
	case path == "":
		return &decodeError{fmt.Sprintf("decode %s: at byte %d: %s", md.FullName(), at, what), cause}
	}
	return &decodeError{fmt.Sprintf("decode %s: field %q at byte %d: %s", md.FullName(), path, at, what), cause}
}

// decodeError says what is wrong in place of the library's cause, which says less, and not always in the same bytes.
type decodeError struct {
	text  string
	cause error
}

func (e *decodeError) Error() string { return e.text }
func (e *decodeError) Unwrap() error { return e.cause }

// locate finds what is malformed in a message that begins at the position base of the payload.
func locate(b []byte, md protoreflect.MessageDescriptor, path string, base, depth int) (_ string, at int, what string) {
	if depth > MaxDepth {
		return path, base, fmt.Sprintf("messages are nested more than %d deep", MaxDepth)
	}
	for i := 0; i < len(b); {
		num, typ, n := protowire.ConsumeTag(b[i:])
		if n < 0 {
			return path, base + i, "this is no field tag: " + reason(n)
		}
		fd := md.Fields().ByNumber(num)
		name := fmt.Sprint(num)
		if fd != nil {
			name = string(fd.Name())
		}
		name = join(path, name)
		at := i + n
		size := protowire.ConsumeFieldValue(num, typ, b[at:])
		if size < 0 {
			return name, base + at, reason(size)
		}
		if fd != nil && typ == protowire.BytesType {
			value, n := protowire.ConsumeBytes(b[at:])
			inside := base + at + n - len(value)
			switch {
			case fd.Kind() == protoreflect.MessageKind:
				if p, at, what := locate(value, fd.Message(), name, inside, depth+1); what != "" {
					return p, at, what
				}
			case fd.Kind() == protoreflect.StringKind && !utf8.Valid(value):
				return name, inside, "the text is not UTF-8"
			}
		}
		i = at + size
	}
	return "", 0, ""
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func reason(n int) string {
	if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		return "the payload ends within it: it is cut"
	}
	return "it is malformed"
}
