build-clang/common/mat.o: common/mat.c common/mat.h

common/mat.h:
