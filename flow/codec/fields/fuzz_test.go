package fields_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// payloads are those with which the fuzzing begins.
func payloads() []string {
	return []string{
		`null`, `{}`, ` { } `, `[]`, `1`, `"x"`, `tru`, `{"STR":"a","str":"b","Str":"c"}`, `{"str":null,"int":null,"words":null,"maybe":null,"parent":null}`,
		`{"str":"\ud800"}`, `{"str":"\ud83d\ude00\ud83d"}`, `{"str":"\u0000\"\\\/\b\f\n\r\t"}`, "{\"str\":\"\xff\xed\xa0\x80\"}", `{"\u0073tr":"x"}`,
		"{\"\xff\":1}", `{"":1}`, `{"floats":[1]}`, "{\"\u017ftr\":\"long s\"}", "{\"wor\u212a\":1}", `{"u64":18446744073709551616}`, `{"i64":1e2}`, `{"i64":-0,"u":-0}`,
		`{"f64":1e400}`, `{"f32":3.5e38}`, `{"f64":-0}`, `{"f64":01}`, `{"f64":1.}`, `{"f64":.5}`, `{"f64":+1}`, `{"f64":-}`, `{"f64":1e}`, `{"i64":123456789012345678}`,
		`{"i64":1234567890123456789}`, `{"i64":000000001}`, `{"three":[1]}`, `{"three":[1,2,3,4,"x"]}`, `{"three":null}`, `{"three":[]}`, `{"grid":[null,[null]]}`,
		`{"blob":"%%"}`, `{"blob":null}`, `{"blob":"aGVs\u0062G8="}`, `{"blob":"aGVs\nbG8="}`, `{"at":"x"}`, `{"at":"2026-01-02T03:04:05\u005a"}`, `{"at":"2026-01-02T03:04:05,5Z"}`,
		`{"raw": [ 1 , 2 ] }`, `{"raw":null}`, `{"raw":tru}`, `{"nested":[]}`, `{"x":{"y":[}]}`, `{"x":[1,]}`, `{"x":{"a":1,}}`, `{"x":{"a"}}`, `{"x":{,}}`,
		`{"x":"\u12"}`, `{"x":"\q"}`, `{"x":nul}`, `{"x":falsey}`, `{,}`, `{"str":"a",}`, `{"str" "a"}`, `{"str":"a" "int":1}`, `{"str":"a"}}`, `{"str":"a"}x`,
		`{"-":5}`, `{"Hidden":5,"lower":6,"-,":7}`, `{"deep":5}`, `{"name":"a","name":null}`, `{"site":null,"site":{"lat":1}}`, "\ufeff{}", "{\"x\":\"\x01\"}",
	}
}

// repeats tells whether some object has a name twice: what encoding/json makes of arrays that repeat is not what Reader says.
func repeats(data []byte) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		names map[string]bool
		name  bool
	}
	var open []level
	for {
		tok, err := d.Token()
		if err != nil {
			return false
		}
		top := len(open) - 1
		switch tok := tok.(type) {
		case json.Delim:
			switch tok {
			case '{':
				open = append(open, level{map[string]bool{}, true})
			case '[':
				open = append(open, level{})
			default:
				open = open[:top]
				if top > 0 && open[top-1].names != nil {
					open[top-1].name = true
				}
			}
			continue
		case string:
			if top >= 0 && open[top].names != nil && open[top].name {
				k := string(bytes.ToLower([]byte(tok)))
				if open[top].names[k] {
					return true
				}
				open[top].names[k] = true
				open[top].name = false
				continue
			}
		}
		if top >= 0 && open[top].names != nil {
			open[top].name = true
		}
	}
}

// FuzzFields compares with encoding/json: the same payloads are taken, they mean the same, and what is written is read back as it was.
func FuzzFields(f *testing.F) {
	f.Add([]byte(full))
	for _, s := range payloads() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if repeats(data) {
			return
		}
		got, err := both(t, data)
		if err != nil {
			return
		}
		rawNull(&got)
		b, err := EverythingCodec().Append(nil, &got)
		require.NoError(t, err)
		back, err := both(t, b)
		require.NoError(t, err)
		equal(t, got, back, b)
	})
}
