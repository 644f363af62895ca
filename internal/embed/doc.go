// Package embed holds a test: a program outside this module that uses the library in its own Watermill router.
package embed
