// Command millrace-codec writes JSON codecs for structs whose fields are known, as Go code without reflection:
//
//	//go:generate go run github.com/millrace-stream/millrace/flow/codec/cmd/millrace-codec -type Reading
//
// For the struct Reading it writes the function ReadingCodec, which returns a codec.Codec[Reading], to reading_codec.go. Several types,
// with commas between them, go to one file named after the first; structs that they refer to are written along, so types that share
// some belong into one command.
//
// Fields may be strings, booleans, numbers, []byte (base64), time.Time, json.RawMessage, structs of the same package, pointers to all
// of them, slices and arrays of all of them, and types of the same package made of these. Names and options come from the tag json
// (omitempty and omitzero, not string). A time is RFC 3339, or by the tag codec:"s", "ms", "us" or "ns" a whole number since 1970.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	types := flag.String("type", "", "names of structs, with commas between them")
	out := flag.String("output", "", "file to write; defaults to the first type's name and _codec.go")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: millrace-codec -type NAME[,NAME] [-output FILE] [FILE.go]\n"+
			"FILE.go is a file of the types' package; go generate names it.")
		flag.PrintDefaults()
	}
	flag.Parse()
	file := os.Getenv("GOFILE")
	if flag.NArg() > 0 {
		file = flag.Arg(0)
	}
	if err := run(file, *types, *out); err != nil {
		fmt.Fprintln(os.Stderr, "millrace-codec:", err)
		os.Exit(1)
	}
}

func run(file, types, out string) error {
	names := strings.Split(types, ",")
	switch {
	case types == "":
		return fmt.Errorf("no type is named: add -type NAME")
	case file == "":
		return fmt.Errorf("no file is named: run it by go generate, or name a Go file of the type's package")
	}
	if out == "" {
		out = strings.ToLower(names[0]) + "_codec.go"
		if strings.HasSuffix(file, "_test.go") {
			out = strings.ToLower(names[0]) + "_codec_test.go"
		}
	}
	if !filepath.IsAbs(out) {
		out = filepath.Join(filepath.Dir(file), out)
	}
	code, err := generate(file, names, out)
	if err != nil {
		return err
	}
	return os.WriteFile(out, code, 0o666)
}
