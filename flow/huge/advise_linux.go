package huge

import (
	"syscall"
	"unsafe"
)

// page is the size of a large page, or a multiple of it, on the architectures that Go runs on.
const page = 2 << 20

// advise asks for large pages behind s, before anything is written there.
func advise[T any](s []T) {
	var t T
	size := uintptr(cap(s)) * unsafe.Sizeof(t)
	if size < From {
		return
	}
	p := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	before := -p & (page - 1)
	if size < before+page {
		return
	}
	whole := (size - before) &^ (page - 1)
	_ = syscall.Madvise(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), before)), whole), syscall.MADV_HUGEPAGE)
}
