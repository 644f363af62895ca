// Package compilefail compiles wrong programs and holds what the compiler says of them: a mistake must not build, and the message
// must name the place where it was made.
package compilefail
