build-clang/tests/unit/test_mat.o: tests/unit/test_mat.c common/mat.h

common/mat.h:
